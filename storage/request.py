"""A request: what a client asked for, in our own words, whichever door it came through.

Every field that the client did not set is None, so that "not asked" and "asked for the default"
stay different things down to the upstream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from storage.rendition import Recipe


class OnUnknown(StrEnum):
    """What to do when nobody knows whether a paid call did its work."""

    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One image that the client gave, or the mask: an object of ours, or a URL not fetched yet.

    Exactly one of `key` and `url` is set. What is known of the bytes was measured when they came
    in.
    """

    key: str | None = None
    url: str | None = field(default=None, repr=False)
    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to make: prompt, count, size, looks, and for an edit the images to start from.

    `size` is "auto" or "WIDTHxHEIGHT" in pixels; `aspect_ratio` is "W:H" and `resolution` a tier
    such as "2K", for those who ask that way. The mask follows OpenAI: where its alpha is 0, the
    image may change. `renditions` are made of every image; with `provenance` False, what the
    upstream did not sign is not labelled either. `options` is passed to the provider as it is.
    """

    prompt: str = field(repr=False)
    n: int = 1
    size: str | None = None
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
    images: tuple[Input, ...] = ()
    mask: Input | None = None
    renditions: tuple[Recipe, ...] = ()
    provenance: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_edit(self) -> bool:
        """Say whether this starts from images."""
        return bool(self.images)

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Return the exact (width, height) asked for, or None when the size is left open."""
        if self.size is None or self.size == "auto":
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Return every image that came with the request, the mask last."""
        return self.images if self.mask is None else (*self.images, self.mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """One parameter that was not applied as asked: `action` is "adapted" or "dropped"."""

    param: str
    action: str
    requested: str | int | float | bool | None = None
    used: str | int | float | bool | None = None
