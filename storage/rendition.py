"""A rendition: another file of the same image, smaller or in another format, beside its original.

A recipe says what is wanted, a rendition what became of it. The names of ours are taken: `original`
is what the upstream delivered where the image had to be converted, `converted` is the conversion of
a signed file, which itself is never changed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storage.failure import Failure


ORIGINAL: Final = "original"
CONVERTED: Final = "converted"
RESERVED: Final = frozenset({ORIGINAL, CONVERTED})
MOST: Final = 16  # renditions of one image
MOST_AT_ONCE: Final = 8  # recipes of one request
WIDEST: Final = 4096  # pixels


class RenditionStatus(StrEnum):
    """Where one rendition stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to make of an image: `width` pixels wide at most, in proportion, as `format`.

    Without a width it keeps its size; it is never enlarged. `quality`, 0 to 100, is for jpeg and
    webp.
    """

    name: str
    width: int | None = None
    format: str = "webp"
    quality: int | None = None


PRESETS: Final = {
    recipe.name: recipe
    for recipe in (Recipe(name="thumbnail", width=256), Recipe(name="web", width=1024))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One other file of an image, measured on what is kept under `key`.

    `recipe` is None for what was not asked for: the original and a conversion of it.
    """

    name: str
    status: RenditionStatus = RenditionStatus.PENDING
    recipe: Recipe | None = None
    key: str | None = None
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    error: Failure | None = None
