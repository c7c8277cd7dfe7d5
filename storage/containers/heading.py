"""What the first bytes of an image say of its size, for files that are not read whole."""

from struct import unpack_from
from typing import Final, NamedTuple

from storage.facts import BadImage


_JPEG_FRAMES: Final = {0xC0, 0xC1, 0xC2}
_MAX_SEGMENTS: Final = 256


class Heading(NamedTuple):
    """Width and height in pixels, as the header states them."""

    width: int
    height: int


def png(head: memoryview) -> Heading:
    """Read the header chunk."""
    length, kind, width, height = unpack_from(">I4sII", head, 8)
    if (length, kind) != (13, b"IHDR"):
        raise BadImage("The PNG has a bad header")
    return Heading(width, height)


def jpeg(head: memoryview) -> Heading:
    """Step over the segments up to the frame header."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        while head[at] == head[at + 1] == 0xFF:
            at += 1
        marker = head[at + 1]
        if head[at] != 0xFF:
            break
        if marker in _JPEG_FRAMES:
            height, width = unpack_from(">HH", head, at + 5)
            return Heading(width, height)
        (length,) = unpack_from(">H", head, at + 2)
        at += 2 + max(length, 2)
    raise BadImage("The JPEG has no frame header where one should be")


def webp(head: memoryview) -> Heading:
    """Read the first chunk."""
    kind = bytes(head[12:16])
    if kind == b"VP8X":
        low, high = unpack_from("<IH", head, 24)
        return Heading(1 + (low & 0xFFFFFF), 1 + (low >> 24 | high << 8))
    if kind == b"VP8L":
        (packed,) = unpack_from("<I", head, 21)
        return Heading(1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", head, 26)
        return Heading(width & 0x3FFF, height & 0x3FFF)
    raise BadImage("The WebP has a bad header")
