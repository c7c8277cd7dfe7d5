"""What a provider is: the whole contract between the walk of a job and the upstreams.

A provider translates an `Order` into its upstream's words and the answer into `Picture`s, and does
nothing else. It stores nothing, retries nothing, logs nothing and signs nothing: whoever calls it
owns time, money and memory. It is given a door to the network and one deployment, never settings.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from storage.request import Adaptation


if TYPE_CHECKING:
    from storage.catalog import Deployment
    from worker.imaging import Imaging
    from worker.web import Web


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input image, or the mask, with its bytes at hand."""

    data: bytes = field(repr=False)
    content_type: str
    filename: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to ask one deployment for, already fitted to what the deployment can.

    `n` is never above the deployment's own limit for one call. `width` and `height` are set
    together when an exact size is asked; `aspect_ratio` ("16:9") and `resolution` ("1K") when the
    deployment speaks tiers. A field that is None was not asked for and is not sent. The mask
    follows OpenAI: alpha 0 marks what may change; a dialect that wants white on black converts it
    with `tools.imaging`. `images` of an edit keep the order of the request.
    """

    job_id: str
    attempt: int
    edit: bool
    model: str
    prompt: str = field(repr=False)
    n: int = 1
    first_index: int = 0
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    style: str | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    seed: int | None = None
    negative_prompt: str | None = field(default=None, repr=False)
    user: str | None = None
    watermark: bool | None = None
    partial_images: int | None = None
    images: tuple[Source, ...] = ()
    mask: Source | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image that came back, its bytes as the upstream sent them."""

    data: bytes = field(repr=False)
    revised_prompt: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer with at least one outcome; each is a picture or the reason why there is none.

    `cost` is what the upstream says it charged, in USD; None when it does not say. `usage` is its
    count of tokens or images. `made` is how many pictures it delivered, usable or not; None means
    those among the outcomes. `cut_off` says that the answer ended before its end, so there may be
    more to pay. `adaptations` names what the dialect could not say as asked. `text` is what the
    upstream said beside or instead of pictures.
    """

    outcomes: tuple[Picture | Failure, ...]
    upstream_id: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    made: int | None = None
    cut_off: bool = False
    adaptations: tuple[Adaptation, ...] = ()
    text: str | None = field(default=None, repr=False)


class ProviderError(Exception):
    """The upstream gave no image at all. `message` is what the caller will read.

    `code` decides whether trying again can help (`FailureCode.retryable`); `retry_after` is the
    upstream's own hint in seconds, if it gave one. `outcome_unknown` says that the request was, or
    may have been, received whole and may be paid for although no answer came. `cost`, `usage` and
    `made` are what the upstream says of the failure, as in a `Reply`. `charged` is True when the
    upstream answered as for work that it has done, although the answer is of no use, False when it
    refused by an error status, and None when nobody can tell.
    """

    def __init__(  # noqa: PLR0913 — all but the message are named, and most stay away
        self,
        message: str,
        *,
        code: FailureCode,
        retry_after: float | None = None,
        outcome_unknown: bool = False,
        upstream_id: str | None = None,
        cost: float | None = None,
        usage: Usage | None = None,
        made: int | None = None,
        charged: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown
        self.upstream_id = upstream_id
        self.cost = cost
        self.usage = usage
        self.made = made
        self.charged = charged

    def as_failure(self) -> Failure:
        """Return the value that the job keeps."""
        return Failure(code=self.code, message=self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A preview on the way to image `index` of this order (0-based within the order)."""

    index: int
    sequence: int
    data: bytes = field(repr=False)


Submitted: TypeAlias = Callable[[str], Awaitable[None]]
Previewed: TypeAlias = Callable[[Partial], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a provider tells of what happens before it is done.

    An asynchronous upstream awaits `submitted(upstream_id)` before its first poll, so that the id
    is safe before any more time or money is spent. `previewed` is awaited for each partial image.
    """

    submitted: Submitted
    previewed: Previewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every provider is built from: the doors to the network and to the pixels."""

    web: "Web"
    imaging: "Imaging"


class Provider(Protocol):
    """One upstream that generates and edits."""

    def __init__(self, deployment: "Deployment", api_key: str | None, tools: Tools) -> None:
        """Keep what is given; dial nobody yet."""

    async def generate(self, order: Order, progress: Progress) -> Reply:
        """Ask for the pictures of `order` (an edit when `order.edit`) and return what came.

        Raises `ProviderError` when there is no outcome at all; anything else that escapes is a
        fault of the provider itself and ends the attempt as `upstream_error`. Bounded by
        `deployment.timeout`, which the caller enforces as well.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """A provider whose upstream keeps a task under an id, so a new worker can go on with it."""

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        """Wait for the task `upstream_id` and return its pictures; never submit again."""
        ...
