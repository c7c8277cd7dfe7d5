"""JPEG: marked segments; coded bytes follow each start of scan, up to the next marker."""

import re
from struct import unpack_from
from typing import Final, NamedTuple

from storage.facts import BadImage, Facts, Limits, check_size


# Segments cost a turn of a Python loop; scans cost a decoder a pass over all pixels.
_MAX_SEGMENTS: Final = 16_384
_MAX_SCANS: Final = 100

_SOF_BASELINE: Final = 0xC0
_SOF_PROGRESSIVE: Final = 0xC2
_DHT: Final = 0xC4
_RST_TO_SOI: Final = range(0xD0, 0xD9)
_EOI: Final = 0xD9
_SOS: Final = 0xDA
_APP1: Final = 0xE1
_APP11: Final = 0xEB
_FRAMES: Final = range(0xC0, 0xD0)  # with DHT, JPG and DAC in between, which are not frames
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class _Frame(NamedTuple):
    marker: int
    length: int
    bits: int
    height: int
    width: int
    channels: int


def walk(view: memoryview, limits: Limits | None) -> Facts:
    """Follow the segments from SOI to EOI and return the facts."""
    frame: _Frame | None = None
    exif = c2pa = False
    scans, at = 0, 2
    for _ in range(_MAX_SEGMENTS):
        marker, at = _marker(view, at)
        if marker == _EOI:
            break
        (length,) = unpack_from(">H", view, at)
        head = bytes(view[at + 2 : at + 64])
        if marker in _FRAMES and marker != _DHT:
            frame = _only_frame(frame, marker, view, at)
            check_size(frame.width, frame.height, limits)
        exif = exif or (marker == _APP1 and head.startswith(b"Exif\x00"))
        c2pa = c2pa or (marker == _APP11 and head.startswith(b"JP") and b"c2pa" in head)
        at += max(length, 2)
        if marker == _SOS:
            scans += 1
            at = _end_of_scan(view, at, scans)
    else:
        raise BadImage("The JPEG has too many segments")
    if frame is None or not scans:
        raise BadImage("The JPEG has no pixels")
    return Facts(
        format="jpeg",
        width=frame.width,
        height=frame.height,
        bytes=len(view),
        channels=frame.channels,
        progressive=frame.marker == _SOF_PROGRESSIVE,
        trailing=len(view) - at,
        exif=exif,
        c2pa=c2pa,
    )


def _marker(view: memoryview, at: int) -> tuple[int, int]:
    """Return the marker at `at` and where its segment begins."""
    # Any number of 0xFF may pad a marker.
    while view[at] == view[at + 1] == 0xFF:
        at += 1
    marker = view[at + 1]
    if view[at] != 0xFF or marker < _SOF_BASELINE or marker in _RST_TO_SOI:
        raise BadImage("The JPEG is damaged: a segment does not begin where it should")
    return marker, at + 2


def _only_frame(seen: _Frame | None, marker: int, view: memoryview, at: int) -> _Frame:
    """Return the frame header at `at`; baseline and progressive Huffman coding only."""
    frame = _Frame(marker, *unpack_from(">HBHHB", view, at))
    if seen is not None or marker > _SOF_PROGRESSIVE or frame.bits != 8:
        raise BadImage("The JPEG is coded in a way that browsers do not show")
    if frame.channels not in {1, 3, 4} or frame.length != 8 + 3 * frame.channels:
        raise BadImage("The JPEG has a bad header")
    return frame


def _end_of_scan(view: memoryview, at: int, scans: int) -> int:
    if scans > _MAX_SCANS:
        raise BadImage("The JPEG has too many scans")
    found = _NEXT_MARKER.search(view, at)
    if found is None:
        raise BadImage("The image is cut short")
    return found.start()
