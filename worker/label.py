"""The label that says "made by a model", put into an image file without touching its pixels.

IPTC's digital source type `trainedAlgorithmicMedia` is what search engines, social networks and
the law's rules of practice read. It stands in XMP, for which PNG, JPEG and WebP each have a place
beside the coded pixels; so the file is cut open there and nothing is decoded. What an upstream has
written into its own XMP stays.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from struct import pack, unpack_from
from typing import Final

from storage.facts import Facts
from storage.provenance import Label


_CODES: Final = b"http://cv.iptc.org/newscodes/digitalsourcetype/"
_SAID: Final = b"DigitalSourceType"
_STATEMENT: Final = (
    b'<rdf:Description xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" rdf:about=""'
    b' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    b' Iptc4xmpExt:DigitalSourceType="' + _CODES + b'trainedAlgorithmicMedia"/>'
)
_END: Final = b"</rdf:RDF>"
_PACKET: Final = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    + _STATEMENT
    + _END
    + b'</x:xmpmeta><?xpacket end="r"?>'
)
_OURS: Final = re.compile(re.escape(_CODES) + rb"trainedAlgorithmicMedia\b")

_KEYWORD: Final = b"XML:com.adobe.xmp\x00"
_AFTER_IHDR: Final = 33
_MAX_PACKET: Final = 1 << 20  # bytes of an upstream's own XMP that are worth reading
_NAMESPACE: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_MOST_IN_A_SEGMENT: Final = 65_533 - len(_NAMESPACE)
_APP0, _APP1, _SOS = 0xE0, 0xE1, 0xDA
_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10


def labelled(data: bytes, facts: Facts) -> tuple[bytes, Label]:
    """Return a sound image file with the label in it, and the label that it now carries.

    The file comes back as it was when it states a source type already, or where it has no place
    for one: a GIF, or a JPEG whose own XMP is too long.
    """
    write = _WRITERS.get(facts.format)
    if write is None:
        return data, Label.NONE
    written = write(memoryview(data), facts)
    if isinstance(written, bytes):
        return written, Label.TRAINED_ALGORITHMIC_MEDIA
    return data, written


def _packet(known: bytes | None) -> bytes | Label:
    """Return the packet to write, or the label that `known` states already."""
    if known is None or (_END not in known and _SAID not in known):
        return _PACKET
    if _OURS.search(known):
        return Label.TRAINED_ALGORITHMIC_MEDIA
    if _SAID in known:
        return Label.NONE  # the upstream says something else of it, and knows better
    before, end, after = known.rpartition(_END)
    return before + _STATEMENT + end + after


def _starts(view: memoryview, at: int, words: bytes) -> bool:
    return bytes(view[at : at + len(words)]) == words


# -- PNG: an iTXt chunk ----------------------------------------------------------------------------


def _png(view: memoryview, facts: Facts) -> bytes | Label:
    start, end, known = _itxt(view)
    packet = _packet(known)
    if isinstance(packet, Label):
        return packet
    body = b"iTXt" + _KEYWORD + b"\x00\x00\x00\x00" + packet
    chunk = pack(">I", len(body) - 4) + body + pack(">I", zlib.crc32(body))
    return b"".join((view[:start], chunk, view[end:]))


def _itxt(view: memoryview) -> tuple[int, int, bytes | None]:
    """Return where the XMP begins and ends, or should stand, and what it says."""
    at = 8
    while at + 12 <= len(view):
        length, kind = unpack_from(">I4s", view, at)
        end = at + 12 + length
        if kind == b"iTXt" and _starts(view, at + 8, _KEYWORD):
            return at, end, _text(bytes(view[at + 8 + len(_KEYWORD) : end - 4]))
        at = end
    return _AFTER_IHDR, _AFTER_IHDR, None


def _text(body: bytes) -> bytes | None:
    """Return the text of an iTXt chunk after its keyword; None when it is of no use."""
    parts = body[2:].split(b"\x00", 2)
    if len(parts) != 3 or len(parts[2]) > _MAX_PACKET:
        return None
    if not body[0]:
        return parts[2]
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(parts[2], _MAX_PACKET)
    except zlib.error:
        return None
    return text if inflate.eof else None


# -- JPEG: an APP1 segment -------------------------------------------------------------------------


def _jpeg(view: memoryview, facts: Facts) -> bytes | Label:
    start, end, known = _segment(view)
    packet = _packet(known)
    if isinstance(packet, Label):
        return packet
    if len(packet) > _MOST_IN_A_SEGMENT:
        return Label.NONE
    head = pack(">BBH", 0xFF, _APP1, 2 + len(_NAMESPACE) + len(packet))
    return b"".join((view[:start], head, _NAMESPACE, packet, view[end:]))


def _segment(view: memoryview) -> tuple[int, int, bytes | None]:
    """Return where the XMP begins and ends, or should stand, and what it says.

    JFIF and EXIF both want to come first, so it stands behind them.
    """
    at = place = 2
    leading = True
    while (marker := view[at + 1]) != _SOS:
        if marker == 0xFF:  # any number of them may pad a marker
            at += 1
            continue
        (length,) = unpack_from(">H", view, at + 2)
        end = at + 2 + length
        if marker == _APP1 and _starts(view, at + 4, _NAMESPACE):
            return at, end, bytes(view[at + 4 + len(_NAMESPACE) : end])
        leading = leading and marker in {_APP0, _APP1}
        place = end if leading else place
        at = end
    return place, place, None


# -- WebP: a chunk of its own, which only an extended file may have --------------------------------


def _webp(view: memoryview, facts: Facts) -> bytes | Label:
    chunks = list(_chunks(view))
    own = (bytes(view[start + 8 : end]) for kind, start, end in chunks if kind == b"XMP ")
    known = next(own, None)
    packet = _packet(known)
    if isinstance(packet, Label):
        return packet
    parts: list[bytes | memoryview] = [_canvas(view, facts, extended=chunks[0][0] == b"VP8X")]
    for kind, start, end in chunks:
        if kind not in {b"VP8X", b"XMP "}:
            parts += [view[start:end], b"\x00" * ((end - start) % 2)]
    parts += [b"XMP " + pack("<I", len(packet)), packet, b"\x00" * (len(packet) % 2)]
    size = sum(len(part) for part in parts)
    return b"".join((b"RIFF", pack("<I", size + 4), b"WEBP", *parts))


def _chunks(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk with where it begins and ends, its padding left out."""
    (size,) = unpack_from("<I", view, 4)
    at = 12
    while at + 8 <= min(size + 8, len(view)):
        kind, length = unpack_from("<4sI", view, at)
        yield kind, at, at + 8 + length
        at += 8 + length + length % 2


def _canvas(view: memoryview, facts: Facts, *, extended: bool) -> bytes:
    """Return the first chunk of an extended file that has XMP."""
    if extended:
        return b"".join((view[12:20], bytes((view[20] | _XMP_FLAG,)), view[21:30]))
    flags = _XMP_FLAG | (_ALPHA_FLAG if facts.alpha else 0)
    width, height = facts.width - 1, facts.height - 1
    sides = width.to_bytes(3, "little") + height.to_bytes(3, "little")
    return b"VP8X" + pack("<IB3x", 10, flags) + sides


_WRITERS: Final[Mapping[str, Callable[[memoryview, Facts], bytes | Label]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
}
