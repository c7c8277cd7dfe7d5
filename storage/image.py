"""An image: one result of a job, with its index, a status of its own and where its bytes are."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from storage.errors import Conflict, Invalid
from storage.failure import Failure
from storage.provenance import Provenance
from storage.rendition import MOST, Recipe, Rendition, RenditionStatus


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
    are known once renditions were made. `share` is the secret of the link that needs no key.
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
    share: str | None = field(default=None, repr=False)

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

    @property
    def wanted(self) -> tuple[Recipe, ...]:
        """Return the recipes that are still to be followed."""
        return tuple(
            one.recipe
            for one in self.renditions
            if one.status is RenditionStatus.PENDING and one.recipe is not None
        )

    def asked(self, recipes: Iterable[Recipe]) -> "Image":
        """Return the image with one more rendition to be made for each recipe that is new.

        One that failed is tried again. Raises `Conflict` where a name stands for another recipe,
        and `Invalid` when there would be too many.
        """
        renditions = {one.name: one for one in self.renditions}
        for recipe in recipes:
            known = renditions.get(recipe.name)
            if known is not None and known.recipe != recipe:
                message = f"There is another rendition called {recipe.name}."
                raise Conflict(message, param="renditions", code="rendition_exists")
            if known is None or known.status is RenditionStatus.FAILED:
                renditions[recipe.name] = Rendition(name=recipe.name, recipe=recipe)
        if len(renditions) > MOST:
            message = f"An image has at most {MOST} renditions."
            raise Invalid(message, param="renditions", code="too_many_renditions")
        return replace(self, renditions=tuple(renditions.values()))

    def with_renditions(self, made: Iterable[Rendition], looks: "Image") -> "Image":
        """Return the image with these renditions in place of those of their names.

        `looks` is the image of which blurhash and colour are known, if they are.
        """
        renditions = {one.name: one for one in (*self.renditions, *made)}
        return replace(
            self,
            renditions=tuple(renditions.values()),
            blurhash=looks.blurhash or self.blurhash,
            dominant_color=looks.dominant_color or self.dominant_color,
        )

    def filename_of(self, rendition: Rendition) -> str:
        """Return the name a download of a rendition is offered under, without the job's id."""
        return f"{self.index}-{rendition.name}.{_extension(rendition.content_type)}"


def _extension(content_type: str | None) -> str:
    kind = (content_type or "application/octet-stream").rpartition("/")[2]
    return "jpg" if kind == "jpeg" else kind
