"""What is answered about webhooks, as models; see `service.wire.replies`."""

from typing import Literal

from pydantic import Field

from service.wire.replies import ImageReply, JobReply, Reply
from storage.delivery import DeliveryStatus
from storage.endpoint import DisabledReason
from storage.replay import ReplayStatus


class SigningKeyReply(Reply):
    """A key that signs at the moment."""

    id: str
    public_key: str = Field(description="whpk_ and the Ed25519 key in base64")
    created_at: int
    expires_at: int | None = Field(description="When it signs no more; null for the current key")


class KeyringReply(Reply):
    """The keys of one receiver."""

    public_key: str = Field(description="The current Ed25519 key, as whpk_ and base64")
    keyring: str
    keys: list[SigningKeyReply] = Field(description="Every key that signs, the newest first")
    jwks_url: str = Field(description="Where everybody finds the public keys")


class SecretReply(KeyringReply):
    """What signs deliveries to a job's own `webhook_url`."""

    secret: str = Field(description="whsec_ and the secret in base64, as Standard Webhooks has it")


class CountsReply(Reply):
    """What became of an endpoint's messages."""

    delivered: int
    undelivered: int
    failed_tries: int


class EndpointReply(KeyringReply):
    """A webhook endpoint; its secret is there only where it was just made."""

    id: str
    object: Literal["webhook_endpoint"]
    url: str
    description: str
    events: list[str]
    include_prompt: bool
    status: Literal["enabled", "disabled"]
    disabled_reason: DisabledReason | None
    disabled_at: int | None
    failing_since: int | None = Field(description="Since when nothing but failures came")
    created_at: int
    deliveries: CountsReply
    secret: str | None = None


class EndpointListReply(Reply):
    """A tenant's webhook endpoints."""

    object: Literal["list"]
    data: list[EndpointReply]
    has_more: Literal[False]
    next: None


class TryReply(Reply):
    """One try at a delivery."""

    at: float
    latency: float = Field(description="Seconds")
    status: int | None = Field(description="The HTTP status, or null when no answer came")
    error: str | None
    reply: str | None = Field(None, description="The first 1024 bytes; left out of lists")


class DeliveryReply(Reply):
    """One message owed to one receiver."""

    id: str = Field(description="The webhook-id of every try")
    object: Literal["delivery"]
    type: str
    status: DeliveryStatus
    endpoint: str | None
    job: str | None
    url: str
    created_at: int
    next_try_at: int | None
    note: str | None = Field(description="Why it was not sent")
    tries: list[TryReply]


class DeliveryListReply(Reply):
    """A page of the log."""

    object: Literal["list"]
    data: list[DeliveryReply]
    has_more: bool
    next: str | None


class ReplayReply(Reply):
    """A request to send deliveries again, and how far it has come."""

    id: str
    object: Literal["replay"]
    status: ReplayStatus
    created_at: int
    finished_at: int | None
    endpoint: str | None
    type: str | None
    only: Literal["failed", "all"]
    created_after: float
    created_before: float
    replayed: int
    truncated: bool = Field(description="There was more than one replay takes")


class TruncatedReply(Reply):
    """What was cut from a message to keep it below 20 kB, and where the whole is."""

    fields: list[str]
    url: str


class MessageJob(JobReply):
    """A job as receivers are shown it: without prompts, unless their endpoint asks for them."""

    image: ImageReply | None = Field(None, description="job.image_ready: the image that is ready")
    truncated: TruncatedReply | None = None


class JobMessage(Reply):
    """What a receiver is sent of a job, signed as Standard Webhooks says."""

    type: str
    timestamp: str
    data: MessageJob


class EndpointMessage(Reply):
    """What a receiver is sent of a webhook endpoint."""

    type: str
    timestamp: str
    data: EndpointReply
