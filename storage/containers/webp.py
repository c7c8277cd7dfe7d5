"""WebP: a RIFF file with one VP8 or VP8L picture, or a VP8X canvas with pictures and metadata."""

from struct import unpack_from
from typing import Final, NamedTuple

from storage.facts import BadImage, Facts, Limits, check_size


_MAX_CHUNKS: Final = 16_384
_START_CODE: Final = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE: Final = 0x2F
_ALPHA_FLAG: Final = 0x10
_ANIMATION_FLAG: Final = 0x02
_PICTURES: Final = {b"VP8 ", b"VP8L", b"ANMF"}


class _Picture(NamedTuple):
    width: int
    height: int
    alpha: bool


def walk(view: memoryview, limits: Limits | None) -> Facts:
    """Read the first chunk for the size, step over the others, and return the facts."""
    (size,) = unpack_from("<I", view, 4)
    end = size + 8 + size % 2
    kind, length = unpack_from("<4sI", view, 12)
    if size < 12 or end - size % 2 > len(view):
        raise BadImage("The image is cut short")
    canvas = _read(kind, view, 20, length)
    check_size(canvas.width, canvas.height, limits)
    kinds = _chunks(view, min(end, len(view)), canvas)
    animated = kind == b"VP8X" and bool(view[20] & _ANIMATION_FLAG)
    if animated != (b"ANMF" in kinds):
        raise BadImage("The WebP is damaged: its header and its frames disagree")
    alpha = canvas.alpha or b"ALPH" in kinds
    return Facts(
        format="webp",
        width=canvas.width,
        height=canvas.height,
        bytes=len(view),
        channels=3 + alpha,
        alpha=alpha,
        frames=kinds.get(b"ANMF", 1),
        trailing=max(0, len(view) - end),
        exif=b"EXIF" in kinds,
        c2pa=b"C2PA" in kinds,
    )


def _chunks(view: memoryview, end: int, canvas: _Picture) -> dict[bytes, int]:
    """Step over each chunk up to `end`; return how often each kind was seen."""
    kinds: dict[bytes, int] = {}
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            break
        kind, length = unpack_from("<4sI", view, at)
        if at + 8 + length > end:
            raise BadImage("The image is cut short")
        if kind in {b"VP8 ", b"VP8L"} and _read(kind, view, at + 8, length)[:2] != canvas[:2]:
            raise BadImage("The WebP is damaged: its picture is not of the size of its canvas")
        kinds[kind] = kinds.get(kind, 0) + 1
        at += 8 + length + length % 2
    else:
        raise BadImage("The WebP has too many chunks")
    if kinds.keys().isdisjoint(_PICTURES):
        raise BadImage("The WebP has no pixels")
    return kinds


def _read(kind: bytes, view: memoryview, at: int, length: int) -> _Picture:
    """Return the size that the chunk's own header states."""
    if kind == b"VP8X" and length >= 10:
        flags, low, high = view[at], *unpack_from("<IH", view, at + 4)
        return _Picture(
            1 + (low & 0xFFFFFF), 1 + (low >> 24 | high << 8), bool(flags & _ALPHA_FLAG)
        )
    if kind == b"VP8L" and length >= 5 and view[at] == _LOSSLESS_SIGNATURE:
        (packed,) = unpack_from("<I", view, at + 1)
        if packed >> 29 == 0:
            return _Picture(
                1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), bool(packed >> 28 & 1)
            )
    if kind == b"VP8 " and length >= 10 and bytes(view[at + 3 : at + 6]) == _START_CODE:
        width, height = unpack_from("<HH", view, at + 6)
        if view[at] & 1 == 0:  # a key frame
            return _Picture(width & 0x3FFF, height & 0x3FFF, alpha=False)
    raise BadImage("The WebP has a bad header")
