"""An image: one result of a job, with its index, a status of its own and where its bytes are."""

from dataclasses import dataclass, field
from enum import StrEnum

from storage.failure import Failure
from storage.provenance import Provenance
from storage.rendition import Rendition, RenditionStatus


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
    is the number of the attempt that made it. `dominant_color` is "#rrggbb"; it and the `blurhash`
    are known once renditions were made.
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
    provenance: Provenance | None = None
    renditions: tuple[Rendition, ...] = ()
    blurhash: str | None = None
    dominant_color: str | None = None

    @property
    def filename(self) -> str:
        """Return the name a download of this image is offered under, without the job's id."""
        return f"{self.index}.{_extension(self.content_type)}"

    @property
    def ready(self) -> tuple[Rendition, ...]:
        """Return the renditions that were made."""
        return tuple(one for one in self.renditions if one.status is RenditionStatus.SUCCEEDED)

    def rendition(self, name: str) -> Rendition | None:
        """Return the rendition of that name, made or not."""
        return next((one for one in self.renditions if one.name == name), None)

    def filename_of(self, rendition: Rendition) -> str:
        """Return the name a download of a rendition is offered under, without the job's id."""
        return f"{self.index}-{rendition.name}.{_extension(rendition.content_type)}"


def _extension(content_type: str | None) -> str:
    kind = (content_type or "application/octet-stream").rpartition("/")[2]
    return "jpg" if kind == "jpeg" else kind
