"""What is known of an image file before it is decoded, and how much of it we take."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from storage.errors import Invalid, TooLarge


CONTENT_TYPES: Final = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
}


class BadImage(Invalid):
    """These bytes are not an image that we take; the message is the plain reason."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = "invalid_image"
    ) -> None:
        super().__init__(message, param=param, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the container of an image claims.

    `width` and `height` are as stored: an EXIF orientation is not applied. `channels` counts the
    samples of a decoded pixel, alpha included: 1 grey, 2 grey and alpha, 3 colour, 4 CMYK or colour
    and alpha. `bits` is the depth of a sample as stored. `progressive` means a progressive JPEG, or
    an interlaced PNG or GIF. `trailing` counts the bytes after the end of the image, which viewers
    ignore and polyglots hide in. `exif` and `c2pa` say that such a record is there, not that it is
    sound.
    """

    format: str
    width: int
    height: int
    bytes: int
    channels: int = 3
    bits: int = 8
    alpha: bool = False
    frames: int = 1
    progressive: bool = False
    trailing: int = 0
    exif: bool = False
    c2pa: bool = False

    @property
    def content_type(self) -> str:
        """The media type of `format`."""
        return CONTENT_TYPES[self.format]

    @property
    def is_plain(self) -> bool:
        """Say whether the file can be passed on as it is.

        If not, it is turned by EXIF or tells where it was taken, moves, has something behind its
        end, or has pixels that upstreams do not read: CMYK, or other than 8 bits.
        """
        cmyk = self.format == "jpeg" and self.channels == 4
        odd = self.exif or self.trailing > 0 or self.frames > 1 or self.bits != 8
        return not (cmyk or odd or self.format == "gif")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest image that is taken, in pixels of a frame and of a side, frames and bytes."""

    pixels: int = 25_000_000
    side: int = 8192
    frames: int = 1
    bytes: int = 20_000_000
    formats: Collection[str] = ("png", "jpeg", "webp")


def check(facts: Facts, limits: Limits) -> None:
    """Raise `BadImage`, or `TooLarge` for the bytes, if the image is over any of `limits`."""
    check_bytes(facts.bytes, limits)
    if facts.format not in limits.formats:
        raise BadImage(f"{facts.format.upper()} images are not accepted")
    check_size(facts.width, facts.height, limits)
    if facts.frames > limits.frames:
        raise BadImage(f"The image has {facts.frames} frames; at most {limits.frames} are accepted")


def check_bytes(size: int, limits: Limits | None) -> None:
    """Raise `TooLarge` if a file of `size` bytes is over the limit."""
    if limits is not None and size > limits.bytes:
        raise TooLarge(f"The image has {size} bytes; at most {limits.bytes} are accepted")


def check_size(width: int, height: int, limits: Limits | None) -> None:
    """Raise `BadImage` if there is no pixel, or more of them than the limit."""
    if width < 1 or height < 1:
        raise BadImage("The image has no pixels")
    if limits is None:
        return
    if max(width, height) > limits.side:
        raise BadImage(f"The image is {width}x{height}; a side is at most {limits.side} pixels")
    if width * height > limits.pixels:
        raise BadImage(
            f"The image is {width}x{height}; at most {limits.pixels} pixels are accepted"
        )
