"""Renditions: made of an image in a child process and kept beside it.

A rendition is a convenience: when it cannot be made, it says so itself, and the image stands.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from storage.container import inspect
from storage.errors import Unavailable
from storage.facts import BadImage, Facts
from storage.failure import Failure, FailureCode
from storage.image import Image
from storage.objects import Objects, ObjectsRefused
from storage.rendition import Recipe, Rendition, RenditionStatus
from worker.imaging import Imaging, ImagingFailed
from worker.label import labelled
from worker.outage import outlast


log = structlog.get_logger("worker.renditions")

_EXTENSIONS = {"image/jpeg": "jpg"}


@dataclass(frozen=True, slots=True)
class Renditions:
    """Makes and keeps renditions. `patience` is in seconds, for an outage of the objects."""

    objects: Objects
    imaging: Imaging
    patience: float

    async def added(
        self, image: Image, data: bytes, recipes: Sequence[Recipe], *, label: bool
    ) -> Image:
        """Return the image, whose bytes are `data`, with a rendition for each recipe."""
        if not recipes:
            return image
        try:
            rendered = await self.imaging.renditions(data, recipes)
        except (BadImage, ImagingFailed) as error:
            log.warning("not_rendered", reason=type(error).__name__)
            failure = Failure(code=FailureCode.INTERNAL_ERROR, message=f"{error.message}.")
            return image.with_renditions([failed(recipe, failure) for recipe in recipes], image)
        made = [
            await self.kept(image, recipe.name, file, recipe=recipe, label=label)
            for recipe, file in zip(recipes, rendered.files, strict=True)
        ]
        looks = replace(image, blurhash=rendered.blurhash, dominant_color=rendered.dominant_color)
        return image.with_renditions(made, looks)

    async def kept(
        self,
        image: Image,
        name: str,
        data: bytes,
        *,
        recipe: Recipe | None = None,
        label: bool = False,
    ) -> Rendition:
        """Keep a file beside the image and return it as a rendition, made or failed."""
        facts = inspect(data)
        if label:
            data, _ = labelled(data, facts)
        key = f"{(image.key or '').rpartition('.')[0]}.{name}.{extension_of(facts.content_type)}"
        try:
            await outlast(
                lambda: self.objects.put(key, data, content_type=facts.content_type),
                patience=self.patience,
            )
        except (ObjectsRefused, Unavailable):
            message = "The object storage did not take the rendition."
            failure = Failure(code=FailureCode.STORAGE_ERROR, message=message)
            return Rendition(name=name, status=RenditionStatus.FAILED, recipe=recipe, error=failure)
        return _made(name, recipe, key, data, facts)


def extension_of(content_type: str) -> str:
    """Return how the key of an object of this type ends."""
    return _EXTENSIONS.get(content_type, content_type.rpartition("/")[2])


def _made(name: str, recipe: Recipe | None, key: str, data: bytes, facts: Facts) -> Rendition:
    return Rendition(
        name=name,
        status=RenditionStatus.SUCCEEDED,
        recipe=recipe,
        key=key,
        content_type=facts.content_type,
        width=facts.width,
        height=facts.height,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def failed(recipe: Recipe, failure: Failure) -> Rendition:
    """Return what could not be made by a recipe."""
    return Rendition(name=recipe.name, status=RenditionStatus.FAILED, recipe=recipe, error=failure)
