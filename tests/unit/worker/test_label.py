"""The label in a file: what it says to others, and that the pixels do not know of it."""

import json
import shutil
import subprocess
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack, unpack
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage.container import inspect
from storage.provenance import Label
from tests import images
from worker.label import labelled


KINDS = ("png", "jpeg", "webp")
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
FOREIGN = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    b"<dc:creator>an upstream</dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def label(data: bytes) -> tuple[bytes, Label]:
    return labelled(data, inspect(data))


# -- a reader of its own ---------------------------------------------------------------------------


def xmp_of_png(data: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(data):
        (length,) = unpack(">I", data[at : at + 4])
        body = data[at + 8 : at + 8 + length]
        if data[at + 4 : at + 8] == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            found.append(body[18:].split(b"\0", 3)[-1].lstrip(b"\0"))
        at += 12 + length
    return found


def xmp_of_jpeg(data: bytes) -> list[bytes]:
    found, at = [], 2
    while data[at + 1] != 0xDA:
        (length,) = unpack(">H", data[at + 2 : at + 4])
        name, _, body = data[at + 4 : at + 2 + length].partition(b"\0")
        if name == b"http://ns.adobe.com/xap/1.0/":
            found.append(body)
        at += 2 + length
    return found


def xmp_of_webp(data: bytes) -> list[bytes]:
    found, at = [], 12
    assert len(data) == unpack("<I", data[4:8])[0] + 8
    while at < len(data):
        kind, length = unpack("<4sI", data[at : at + 8])
        if kind == b"XMP ":
            found.append(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return found


READERS: dict[str, Callable[[bytes], list[bytes]]] = {
    "png": xmp_of_png,
    "jpeg": xmp_of_jpeg,
    "webp": xmp_of_webp,
}


def source_types(data: bytes) -> list[str | None]:
    """Return what every packet of the file says of its source."""
    packets = READERS[inspect(data).format](data)
    return [
        one.get(f"{IPTC}DigitalSourceType")
        for packet in packets
        for one in ET.fromstring(packet).iter(f"{RDF}Description")  # noqa: S314 — made just now
        if one.get(f"{IPTC}DigitalSourceType") is not None
    ]


# -- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_another_reader_finds_the_label(kind: str) -> None:
    made, says = label(images.picture(kind))
    assert says is Label.TRAINED_ALGORITHMIC_MEDIA
    assert source_types(made) == [SOURCE]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not on this machine")
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("png", "RGB"), ("png", "RGBA"), ("jpeg", "RGB"), ("webp", "RGB"), ("webp", "RGBA")],
)
def test_exiftool_reads_the_label_and_has_nothing_to_complain_of(
    kind: str, mode: str, tmp_path: Path
) -> None:
    file = tmp_path / f"picture.{kind}"
    file.write_bytes(label(images.picture(kind, mode))[0])
    said = subprocess.run(
        ["exiftool", "-json", "-validate", "-warning", "-DigitalSourceType", str(file)],
        capture_output=True,
        check=True,
        timeout=20,
    )
    (read,) = json.loads(said.stdout)
    said_of_source = str(read["DigitalSourceType"]).lower().replace(" ", "")
    assert "trainedalgorithmicmedia" in said_of_source
    assert "Warning" not in read, read


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_is_written_once(kind: str) -> None:
    once, _ = label(images.picture(kind))
    assert label(once) == (once, Label.TRAINED_ALGORITHMIC_MEDIA)


def with_xmp(kind: str, packet: bytes) -> bytes:
    plain = images.picture(kind)
    if kind == "png":
        return images.with_chunk(plain, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    if kind == "jpeg":
        return images.with_segment(plain, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
    canvas = images.riff_chunk(b"VP8X", pack("<I", 4) + b"\x3f\0\0\x2f\0\0")
    return images.riff(canvas, plain[12:], images.riff_chunk(b"XMP ", packet))


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_upstream_wrote_stays_beside_the_label(kind: str) -> None:
    made, _ = label(with_xmp(kind, FOREIGN))
    (packet,) = READERS[kind](made)
    assert b"an upstream" in packet
    assert source_types(made) == [SOURCE]
    inspect(made)


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_upstream_says_of_the_source_is_not_contradicted(kind: str) -> None:
    other = FOREIGN.replace(
        b"<dc:creator>", b"<i:DigitalSourceType>x/digitalCapture</i:DigitalSourceType><dc:creator>"
    )
    given_ = with_xmp(kind, other)
    assert label(given_) == (given_, Label.NONE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packet_that_is_none_is_replaced(kind: str) -> None:
    made, _ = label(with_xmp(kind, b"\0\xff nothing to read"))
    assert source_types(made) == [SOURCE]


def test_compressed_xmp_of_a_png_is_read_and_kept() -> None:
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(FOREIGN)
    made, _ = label(images.with_chunk(images.picture("png"), b"iTXt", body))
    assert b"an upstream" in xmp_of_png(made)[0]


def test_xmp_that_inflates_without_end_is_replaced() -> None:
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 5_000_000)
    made, _ = label(images.with_chunk(images.picture("png"), b"iTXt", body))
    assert source_types(made) == [SOURCE]
    assert len(made) < 20_000


def test_a_jpeg_whose_own_xmp_fills_its_segment_stays_as_it_is() -> None:
    full = with_xmp("jpeg", FOREIGN.replace(b"upstream", b"upstream" + b" " * 65_000))
    assert label(full) == (full, Label.NONE)


def test_a_gif_has_no_place_for_a_label() -> None:
    gif = images.animated_gif(2)
    assert label(gif) == (gif, Label.NONE)


# -- what it leaves alone --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_pixel_changes(kind: str, mode: str) -> None:
    if (kind, mode) == ("jpeg", "RGBA"):
        mode = "L"
    plain = images.picture(kind, mode)
    made, _ = label(plain)
    assert images.decoded(made).tobytes() == images.decoded(plain).tobytes()
    before, after = inspect(plain), inspect(made)
    assert (after.width, after.height, after.alpha) == (before.width, before.height, before.alpha)
    assert after.trailing == 0


def test_a_lossless_webp_keeps_its_alpha() -> None:
    plain = images.picture("webp", "RGBA", lossless=True)
    made, _ = label(plain)
    assert images.decoded(made).tobytes() == images.decoded(plain).tobytes()
    assert Image.open(BytesIO(made)).mode == "RGBA"


def test_exif_keeps_its_place_before_the_label() -> None:
    made, _ = label(images.oriented(6))
    assert made.index(b"Exif\0") < made.index(b"http://ns.adobe.com/xap")
    assert Image.open(BytesIO(made)).getexif()[0x0112] == 6


@given(kind=st.sampled_from(KINDS), width=st.integers(1, 70), height=st.integers(1, 70))
def test_any_picture_can_be_labelled(kind: str, width: int, height: int) -> None:
    made, says = label(images.picture(kind, size=(width, height)))
    assert says is Label.TRAINED_ALGORITHMIC_MEDIA
    assert images.decoded(made).size == (width, height)
    assert source_types(made) == [SOURCE]
