"""An image: one result of a job, with its index, a status of its own and where its bytes are."""

from dataclasses import dataclass, field
from enum import StrEnum

from storage.failure import Failure


class ImageStatus(StrEnum):
    """Where one image of a job stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One of the n images of a job.

    `key` names the object; `width` and `height` are pixels, `bytes` the object's size and `sha256`
    its digest in hex, all measured on what was delivered and never taken from a request. `attempt`
    is the number of the attempt that made it.
    """

    index: int
    status: ImageStatus = ImageStatus.PENDING
    key: str | None = None
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    attempt: int | None = None
    revised_prompt: str | None = field(default=None, repr=False)
    error: Failure | None = None

    @property
    def filename(self) -> str:
        """Return the name a download of this image is offered under, without the job's id."""
        kind = (self.content_type or "application/octet-stream").rpartition("/")[2]
        return f"{self.index}.{'jpg' if kind == 'jpeg' else kind}"
