"""PNG: a signature, then chunks with a checksum each, IHDR to IEND."""

import zlib
from struct import unpack_from
from typing import Final

from storage.facts import BadImage, Facts, Limits, check_size


# A chunk costs a turn of a Python loop, so a file of very many tiny ones is refused, not walked.
_MAX_CHUNKS: Final = 16_384
_PALETTE: Final = 3
_DEPTHS: Final = {
    0: (1, 2, 4, 8, 16),
    2: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
_CHANNELS: Final = {0: 1, 2: 3, _PALETTE: 3, 4: 2, 6: 4}
_CRITICAL: Final = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def walk(view: memoryview, limits: Limits | None) -> Facts:
    """Read the header, check every chunk and its CRC up to IEND, and return the facts."""
    length, kind, width, height, bits, colour, compression, filters, interlace = unpack_from(
        ">I4sIIBBBBB", view, 8
    )
    if (length, kind, compression, filters) != (13, b"IHDR", 0, 0) or interlace > 1:
        raise BadImage("The PNG has a bad header")
    if bits not in _DEPTHS.get(colour, ()) or max(width, height) >= 1 << 31:
        raise BadImage("The PNG has a bad header")
    check_size(width, height, limits)
    kinds, frames, end = _chunks(view)
    if colour == _PALETTE and b"PLTE" not in kinds:
        raise BadImage("The PNG has no palette")
    transparent = b"tRNS" in kinds
    return Facts(
        format="png",
        width=width,
        height=height,
        bytes=len(view),
        channels=_CHANNELS[colour] + transparent,
        bits=bits,
        alpha=transparent or colour in {4, 6},
        frames=frames,
        progressive=interlace == 1,
        trailing=len(view) - end,
        exif=b"eXIf" in kinds,
        c2pa=b"caBX" in kinds,
    )


def _chunks(view: memoryview) -> tuple[set[bytes], int, int]:
    """Check each chunk; return the kinds seen, the number of frames and where the PNG ends."""
    kinds: set[bytes] = set()
    frames, last, at = 1, b"", 8
    for _ in range(_MAX_CHUNKS):
        length, kind = unpack_from(">I4s", view, at)
        body, at = at + 8, at + 12 + length
        (crc,) = unpack_from(">I", view, at - 4)
        if crc != zlib.crc32(view[body - 4 : body + length]):
            raise BadImage("The PNG is damaged: a checksum does not match")
        _check_order(kind, last, kinds)
        if kind == b"acTL":
            frames = max(frames, *unpack_from(">I", view, body))
        kinds.add(kind)
        last = kind
        if kind == b"IEND":
            return kinds, frames, at
    raise BadImage("The PNG has too many chunks")


def _check_order(kind: bytes, last: bytes, kinds: set[bytes]) -> None:
    if kind not in _CRITICAL:
        # A lower-case first letter is how PNG marks a chunk that a reader may skip.
        if not kind.isalpha() or not kind[:1].islower():
            raise BadImage("The PNG has a chunk that no viewer knows")
        return
    pixels = b"IDAT" in kinds
    repeated = kind in kinds and not kind == last == b"IDAT"
    if repeated or (kind == b"PLTE" and pixels) or (kind == b"IEND" and not pixels):
        raise BadImage("The PNG has its chunks out of order")
