"""What is answered, as models: they describe the API and hold its tests, and build nothing.

Replies are made as plain JSON where they are sent, since that is several times cheaper; the tests
read them back with these models, so that the description cannot drift from what is sent.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from storage.attempt import AttemptStatus, CostSource
from storage.batch import BatchStatus
from storage.failure import FailureCode
from storage.file import Purpose
from storage.image import ImageStatus
from storage.job import JobStatus, JobType
from storage.rendition import RenditionStatus


class Reply(BaseModel):
    """What every reply shares: it says nothing that is not described."""

    model_config = ConfigDict(extra="forbid")


class OpenReply(BaseModel):
    """A reply in the words of others, which may say more."""

    model_config = ConfigDict(extra="allow")


class ErrorBody(Reply):
    """Why a request was refused."""

    message: str
    type: str
    param: str | None = Field(description="The field or header that is at fault")
    code: str


class ErrorReply(Reply):
    """Every error, on every route."""

    error: ErrorBody


class FailureReply(Reply):
    """Why a job, an attempt or an image ended badly."""

    code: FailureCode
    message: str


class CostReply(Reply):
    """A sum of money; an unknown one is null, never 0."""

    amount: float | None
    currency: Literal["USD"]
    source: CostSource
    at_risk: float | None = Field(
        None, description="USD that may have been charged beyond `amount`; null: nobody can say"
    )


class WarningReply(Reply):
    """A parameter that was not applied as asked."""

    param: str
    action: Literal["adapted", "dropped"]
    requested: str | int | float | bool | None
    used: str | int | float | bool | None = None


class UsageReply(Reply):
    """What the upstreams counted; what they did not count is left out."""

    input_tokens: int | None = None
    input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    output_text_tokens: int | None = None
    output_image_tokens: int | None = None
    total_tokens: int | None = None
    images: int | None = None


class ProvenanceReply(Reply):
    """Where an image comes from, and what its file says about it."""

    model: str
    deployment: str | None
    provider: str | None
    created_at: int
    job: str
    sha256: str | None
    c2pa: Literal["signed", "absent"]
    label: str | None
    synthid: Literal["claimed", "unknown"]


class RenditionReply(Reply):
    """One image in another size or format."""

    name: str
    status: RenditionStatus
    url: str | None = None
    url_expires_at: int | None = None
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    error: FailureReply | None = None


class RenditionListReply(Reply):
    """The renditions of an image, also those that are still to be made."""

    object: Literal["list"]
    data: list[RenditionReply]


class LinkReply(Reply):
    """A link that was signed to live as long as was asked."""

    object: Literal["link"]
    url: str
    expires_at: int


class ShareReply(Reply):
    """A link to one image that needs no key, until it is taken back."""

    object: Literal["share"]
    job: str
    index: int
    token: str
    url: str


class UnsharedReply(Reply):
    """A share link that leads nowhere any more."""

    object: Literal["share"]
    job: str
    index: int
    deleted: Literal[True]


class ImageReply(Reply):
    """One image of a job; a link is signed whenever it is shown."""

    index: int
    status: ImageStatus
    url: str | None = None
    url_expires_at: int | None = None
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    revised_prompt: str | None = None
    provenance: ProvenanceReply | None = None
    renditions: list[RenditionReply] = Field(default_factory=list)
    blurhash: str | None = None
    dominant_color: str | None = None
    error: FailureReply | None = None


class AttemptReply(Reply):
    """One try at one deployment, and what it cost."""

    number: int
    deployment: str
    provider: str
    upstream_id: str | None
    status: AttemptStatus
    started_at: int
    finished_at: int | None
    cost: float | None
    cost_source: CostSource
    at_risk: float | None = Field(
        description="USD that may have been charged beyond `cost`, by the price list"
    )
    usage: UsageReply | None
    error: FailureReply | None


class JobReply(Reply):
    """One job. Times are Unix seconds, sizes pixels and bytes."""

    id: str
    object: Literal["job"]
    type: JobType
    status: JobStatus
    model: str
    created_at: int
    started_at: int | None
    finished_at: int | None
    queue_position: int | None
    eta: int | None
    n: int
    request: dict[str, Any] = Field(description="What was asked, as it was understood")
    images: list[ImageReply]
    attempts: list[AttemptReply]
    usage: UsageReply | None
    cost: CostReply
    warnings: list[WarningReply]
    error: FailureReply | None
    metadata: dict[str, str]
    webhook_url: str | None
    batch: str | None = Field(None, description="The batch that the job is of")


class JobListReply(Reply):
    """A page of jobs, the newest first; `next` is the cursor of the page after it."""

    object: Literal["list"]
    data: list[JobReply]
    has_more: bool
    next: str | None


class RefusedReply(Reply):
    """One job of several that was refused, by its place in the array."""

    index: int
    error_status: int
    error: ErrorBody


class JobsMadeReply(Reply):
    """The answer to an array of jobs, in its order: each job, or why it was refused."""

    object: Literal["list"]
    data: list[JobReply | RefusedReply]
    made: int


class DeletedReply(Reply):
    """Something that is no more."""

    id: str
    object: str
    deleted: Literal[True]


class PictureReply(OpenReply):
    """One image of OpenAI's reply."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class TokensReply(OpenReply):
    """What OpenAI's reply counts."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ImagesReply(Reply):
    """OpenAI's reply with images, and what Darkroom adds: job_id, model, cost and warnings."""

    created: int
    data: list[PictureReply]
    background: Literal["transparent", "opaque"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    quality: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    size: str | None = None
    usage: TokensReply | None = None
    job_id: str
    model: str
    cost: CostReply
    warnings: list[WarningReply]


class ModelReply(OpenReply):
    """A model: what it can, what it costs, and whether a worker can serve it now."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    available: bool
    aliases: list[str]
    capabilities: dict[str, Any]
    price: dict[str, Any]


class ModelListReply(Reply):
    """All models."""

    object: Literal["list"]
    data: list[ModelReply]


class UploadReply(Reply):
    """Where to put the bytes of a file that was announced, and with which headers."""

    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    expires_at: int


class FileReply(Reply):
    """One uploaded image; its id is taken wherever a file_id is."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["uploaded", "processed"]
    content_type: str
    width: int | None
    height: int | None
    upload: UploadReply | None = None


class FileListReply(Reply):
    """Files, the newest first."""

    object: Literal["list"]
    data: list[FileReply]
    has_more: bool


class CandidateReply(Reply):
    """What one deployment would charge, or why it cannot."""

    deployment: str
    provider: str
    available: bool
    cost: CostReply
    as_of: str | None
    able: bool
    warnings: list[WarningReply] = Field(default_factory=list)
    param: str | None = None
    reason: str | None = None


class QuoteReply(Reply):
    """What a job would cost, deployment by deployment."""

    object: Literal["quote"]
    model: str
    n: int
    currency: Literal["USD"]
    quotes: list[CandidateReply]
    warnings: list[WarningReply]


class SpendReply(Reply):
    """What a tenant's jobs came to, by day and model."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    object: Literal["usage"]
    from_: str = Field(alias="from")
    to: str
    currency: Literal["USD"]
    data: list[dict[str, Any]]
    total: dict[str, Any]
    spend_per_day: float | None


class ChatReply(OpenReply):
    """A chat completion; its images are in the message's `images` and in its content.

    Asked in OpenAI's words, the content is a text with the images in Markdown, and `content_parts`
    has them as parts. Asked in those of a gateway, or below `/api`, the content is the parts.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]


class ResponseReply(OpenReply):
    """A response of OpenAI's Responses; images are items of its output."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class BatchCountsReply(Reply):
    """How many requests a batch has, and what became of them so far."""

    total: int
    completed: int
    failed: int


class BatchReply(Reply):
    """A batch, in OpenAI's words."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: None
    input_file_id: str | None
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCountsReply
    metadata: dict[str, str]
    retry_of: str | None = Field(description="The batch whose failed requests these are")


class BatchListReply(Reply):
    """Some batches, the newest first."""

    object: Literal["list"]
    data: list[BatchReply]
    first_id: str | None
    last_id: str | None
    has_more: bool
