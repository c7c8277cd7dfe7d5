"""What an image file says about itself, read from its container without decoding a pixel.

Uploads and upstream answers are hostile until looked at, and a decoder is too slow and too
trusting to look first: 38 bytes of WebP decode to 81 megapixels. Walking the container costs about
as much as a checksum, refuses a bomb from its header, and is enough for every image that only
passes through. It proves that the file is whole and of the size it claims, not that it decodes.
"""

import re
from collections.abc import Callable, Mapping
from mmap import mmap
from struct import error as StructError  # noqa: N812 — an exception, named like one
from typing import Final, TypeAlias

from storage.containers import gif, heading, jpeg, png, webp
from storage.facts import (
    CONTENT_TYPES,
    BadImage,
    Facts,
    Limits,
    check,
    check_bytes,
    check_size,
)


__all__ = [
    "CONTENT_TYPES",
    "SNIFF_BYTES",
    "BadImage",
    "Facts",
    "Limits",
    "check",
    "inspect",
    "measure",
    "sniff",
]

Data: TypeAlias = bytes | bytearray | memoryview | mmap

SNIFF_BYTES: Final = 512

_MAGIC: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "image/avif"),
    (
        re.compile(
            rb"(?:\xef\xbb\xbf)?(?:\s|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>)*+<svg[\s>]",
            re.DOTALL | re.IGNORECASE,
        ),
        "image/svg+xml",
    ),
)
_WALKS: Final[Mapping[str | None, Callable[[memoryview, Limits | None], Facts]]] = {
    "image/png": png.walk,
    "image/jpeg": jpeg.walk,
    "image/webp": webp.walk,
    "image/gif": gif.walk,
}
_HEADINGS: Final[Mapping[str | None, Callable[[memoryview], heading.Heading]]] = {
    "image/png": heading.png,
    "image/jpeg": heading.jpeg,
    "image/webp": heading.webp,
}


def sniff(head: bytes) -> str | None:
    """Return the content type that the first bytes show, or None; `SNIFF_BYTES` of them suffice."""
    for magic, content_type in _MAGIC:
        if magic.match(head, 0, SNIFF_BYTES):
            return content_type
    return None


def inspect(data: Data, limits: Limits | None = None) -> Facts:
    """Walk the whole container and return its facts; with `limits`, hold it to them as well.

    Raises `BadImage` when the file is of a kind that is not walked, damaged, cut short or over
    `limits` (its pixels are judged before anything but the header is read), and `TooLarge` when it
    has too many bytes. Costs about 1 ms for a PNG of 1.8 MB.
    """
    with memoryview(data) as view:
        check_bytes(len(view), limits)
        content_type = sniff(bytes(view[:SNIFF_BYTES]))
        walk = _WALKS.get(content_type)
        if walk is None:
            raise BadImage(f"The file is not a PNG, JPEG or WebP image{_but(content_type)}")
        try:
            facts = walk(view, limits)
        except (StructError, IndexError):
            raise BadImage("The image is cut short") from None
    if limits is not None:
        check(facts, limits)
    return facts


def measure(head: bytes, size: int, limits: Limits) -> Facts:
    """Return what the first bytes of a file of `size` bytes state, held to `limits`.

    For files that are not read whole; it proves nothing about the rest. Raises `BadImage` and
    `TooLarge` as `inspect` does.
    """
    check_bytes(size, limits)
    content_type = sniff(head[:SNIFF_BYTES])
    read = _HEADINGS.get(content_type)
    if content_type is None or read is None:
        raise BadImage(f"The file is not a PNG, JPEG or WebP image{_but(content_type)}")
    try:
        width, height = read(memoryview(head))
    except (StructError, IndexError):
        raise BadImage("The image is cut short") from None
    check_size(width, height, limits)
    return Facts(format=content_type.rpartition("/")[2], width=width, height=height, bytes=size)


def _but(content_type: str | None) -> str:
    return "" if content_type is None else f" but {content_type}"
