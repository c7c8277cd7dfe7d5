"""What an image file says about itself, read from its container without decoding a pixel.

Uploads and upstream answers are hostile until looked at, and a decoder is too slow and too trusting
to look first: 38 bytes of WebP decode to 81 megapixels. Walking the container costs about as much as
a checksum, refuses a bomb from its header, and is enough for every image that only passes through.
It proves that the file is whole and of the size it claims, not that its pixels decode.
"""

import re
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from mmap import mmap
from struct import error as StructError
from struct import unpack_from
from typing import Final, TypeAlias

from storage.errors import Invalid, TooLarge


Data: TypeAlias = bytes | bytearray | memoryview | mmap

SNIFF_BYTES: Final = 512
CONTENT_TYPES: Final = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
}

# Each part of a file costs a turn of a Python loop, so a file of tiny parts is refused, not walked.
_MAX_PARTS: Final = 16_384
_MAX_SCANS: Final = 100


class BadImage(Invalid):
    """These bytes are not an image that we take; the message is the plain reason."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = "invalid_image"
    ) -> None:
        super().__init__(message, param=param, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the container claims.

    `width` and `height` are as stored: an EXIF orientation is not applied. `channels` counts the
    samples of a decoded pixel (1 grey, 3 colour, 4 CMYK; plus one when `alpha`), `bits` those of one
    sample. `progressive` means progressive JPEG or interlaced PNG. `trailing` counts bytes after the
    end of the image, which a polyglot hides in and a viewer ignores. `exif` and `c2pa` say that such
    a record is there, not that it is sound.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest image that is taken: pixels of one frame, pixels of a side, frames and bytes."""

    pixels: int = 25_000_000
    side: int = 8192
    frames: int = 1
    bytes: int = 20_000_000
    formats: Collection[str] = ("png", "jpeg", "webp")


def sniff(head: bytes) -> str | None:
    """Return the content type that the first bytes show, or None; `SNIFF_BYTES` of them suffice."""
    for magic, content_type in _MAGIC:
        if magic.match(head):
            return content_type
    return None


def inspect(data: Data, limits: Limits | None = None) -> Facts:
    """Walk the whole container and return its facts; with `limits`, hold it to them as well.

    Raises `BadImage` when the file is of another kind, damaged, cut short or over `limits` (its size
    in pixels is judged before anything else is read), and `TooLarge` when it has too many bytes.
    """
    with memoryview(data) as view:
        if limits is not None:
            _check_bytes(len(view), limits)
        content_type = sniff(bytes(view[:SNIFF_BYTES]))
        walk = _WALKS.get(content_type or "")
        if walk is None:
            raise BadImage(f"{_KNOWN.get(content_type or '', 'This file')} is not accepted")
        try:
            facts = walk(view, limits)
        except (StructError, IndexError):
            raise BadImage("The image is cut short") from None
    if limits is not None:
        check(facts, limits)
    return facts


def check(facts: Facts, limits: Limits) -> None:
    """Raise `BadImage` or `TooLarge` if the image is over any of `limits`."""
    _check_bytes(facts.bytes, limits)
    if facts.format not in limits.formats:
        raise BadImage(f"{facts.format.upper()} images are not accepted")
    _check_size(facts.width, facts.height, limits)
    if facts.frames > limits.frames:
        raise BadImage(f"The image has {facts.frames} frames; at most {limits.frames} are accepted")


def _check_bytes(size: int, limits: Limits) -> None:
    if size > limits.bytes:
        raise TooLarge(f"The image has {size} bytes; at most {limits.bytes} are accepted")


def _check_size(width: int, height: int, limits: Limits | None) -> None:
    if width < 1 or height < 1:
        raise BadImage("The image has no pixels")
    if limits is None:
        return
    if max(width, height) > limits.side:
        raise BadImage(f"The image is {width}x{height}; a side is at most {limits.side} pixels")
    if width * height > limits.pixels:
        raise BadImage(f"The image is {width}x{height}; at most {limits.pixels} pixels are accepted")


# --- PNG -----------------------------------------------------------------------------------------

_PNG_DEPTHS: Final = {
    0: (1, 2, 4, 8, 16),
    2: (8, 16),
    3: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_CRITICAL: Final = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def _png(view: memoryview, limits: Limits | None) -> Facts:
    length, kind, width, height, bits, colour, compression, filters, interlace = unpack_from(
        ">I4sIIBBBBB", view, 8
    )
    if (length, kind, compression, filters) != (13, b"IHDR", 0, 0) or interlace > 1:
        raise BadImage("The PNG has a bad header")
    if bits not in _PNG_DEPTHS.get(colour, ()) or max(width, height) >= 1 << 31:
        raise BadImage("The PNG has a bad header")
    _check_size(width, height, limits)
    kinds, frames, end = _png_chunks(view)
    if colour == 3 and b"PLTE" not in kinds:  # noqa: PLR2004 — PNG's colour type for palettes
        raise BadImage("The PNG has no palette")
    transparent = b"tRNS" in kinds
    return Facts(
        format="png",
        width=width,
        height=height,
        bytes=len(view),
        channels=_PNG_CHANNELS[colour] + transparent,
        bits=bits,
        alpha=transparent or colour in {4, 6},
        frames=frames,
        progressive=interlace == 1,
        trailing=len(view) - end,
        exif=b"eXIf" in kinds,
        c2pa=b"caBX" in kinds,
    )


def _png_chunks(view: memoryview) -> tuple[set[bytes], int, int]:
    """Check every chunk up to IEND; return the kinds seen, the frames and where the PNG ends."""
    kinds: set[bytes] = set()
    frames, last, at = 1, b"", 8
    for _ in range(_MAX_PARTS):
        length, kind = unpack_from(">I4s", view, at)
        body, at = at + 8, at + 12 + length
        (crc,) = unpack_from(">I", view, at - 4)
        if crc != zlib.crc32(view[body - 4 : body + length]):
            raise BadImage("The PNG is damaged: a checksum does not match")
        if kind in _PNG_CRITICAL:
            _check_png_order(kind, last, kinds)
        elif not kind.isalpha() or kind[0] < ord("a"):
            raise BadImage("The PNG has a chunk that no viewer knows")
        if kind == b"acTL":
            frames = max(frames, *unpack_from(">I", view, body))
        kinds.add(kind)
        last = kind
        if kind == b"IEND":
            return kinds, frames, at
    raise BadImage("The PNG has too many chunks")


def _check_png_order(kind: bytes, last: bytes, kinds: set[bytes]) -> None:
    pixels = b"IDAT" in kinds
    repeated = kind in kinds and not (kind == b"IDAT" and last == b"IDAT")
    if repeated or (kind == b"PLTE" and pixels) or (kind == b"IEND" and not pixels):
        raise BadImage("The PNG has its chunks out of order")


# --- JPEG ----------------------------------------------------------------------------------------

_JPEG_FRAMES: Final = {0xC0, 0xC1, 0xC2}
_JPEG_OTHER_FRAMES: Final = {0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_JPEG_BARE: Final = {0x01, *range(0xD0, 0xD9)}
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOS: Final = 0xDA
_EOI: Final = 0xD9


def _jpeg(view: memoryview, limits: Limits | None) -> Facts:
    frame: tuple[int, int, int, int, int] | None = None
    exif = c2pa = False
    scans, at = 0, 2
    for _ in range(_MAX_PARTS):
        marker, at = _jpeg_marker(view, at)
        if marker == _EOI:
            break
        (length,) = unpack_from(">H", view, at)
        if marker in _JPEG_FRAMES and frame is None:
            frame = (marker, *unpack_from(">BHHB", view, at + 2))
            _check_jpeg_frame(frame, length)
            _check_size(frame[3], frame[2], limits)
        elif marker in _JPEG_FRAMES | _JPEG_OTHER_FRAMES:
            raise BadImage("The JPEG is coded in a way that browsers do not show")
        head = bytes(view[at + 2 : at + min(length, 64)])
        exif = exif or (marker == 0xE1 and head.startswith(b"Exif\x00"))
        c2pa = c2pa or (marker == 0xEB and head.startswith(b"JP") and b"c2pa" in head)
        at += length
        if marker == _SOS:
            scans += 1
            at = _jpeg_scan_end(view, at, scans)
    else:
        raise BadImage("The JPEG has too many segments")
    if frame is None or not scans:
        raise BadImage("The JPEG has no pixels")
    kind, bits, height, width, channels = frame
    return Facts(
        format="jpeg",
        width=width,
        height=height,
        bytes=len(view),
        channels=channels,
        bits=bits,
        progressive=kind == 0xC2,
        trailing=len(view) - at,
        exif=exif,
        c2pa=c2pa,
    )
