import mmap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.container import SNIFF_BYTES, BadImage, Facts, Limits, check, inspect, measure, sniff
from storage.errors import Invalid, TooLarge
from tests import images


ANY_FORMAT = Limits(formats=("png", "jpeg", "webp", "gif"), frames=10_000)


def named(samples: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("data", samples.values(), ids=samples.keys())


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (images.picture("png"), "image/png"),
        (images.picture("jpeg"), "image/jpeg"),
        (images.picture("webp"), "image/webp"),
        (images.picture("webp", lossless=True), "image/webp"),
        (images.picture("gif"), "image/gif"),
        (images.picture("avif"), "image/avif"),
        (images.strangers()["svg"], "image/svg+xml"),
        (b"\xef\xbb\xbf  \n<!-- hm --><SVG width='1'>", "image/svg+xml"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE svg PUBLIC 'x'>\n<svg>", "image/svg+xml"),
        (b"<svgish>", None),
        (images.strangers()["html after a comment"], None),
        (images.strangers()["wav"], None),
        (images.strangers()["heic"], None),
        (b"", None),
    ],
)
def test_the_first_bytes_show_the_content_type(data: bytes, content_type: str | None) -> None:
    assert sniff(data[:SNIFF_BYTES]) == content_type


@pytest.mark.parametrize("head", [b" " * 100_000, b"<!--" * 50_000, b"<?xml" * 50_000])
def test_sniffing_is_quick_whatever_the_bytes(head: bytes) -> None:
    began = time.thread_time()
    assert sniff(head) is None
    assert time.thread_time() - began < 0.01


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (images.picture(), Facts(format="png", width=64, height=48, bytes=0)),
        (images.picture(mode="L"), Facts(format="png", width=64, height=48, bytes=0, channels=1)),
        (
            images.picture(mode="RGBA"),
            Facts(format="png", width=64, height=48, bytes=0, channels=4, alpha=True),
        ),
        (images.picture(mode="P"), Facts(format="png", width=64, height=48, bytes=0)),
        (
            images.picture(mode="P", transparency=0),
            Facts(format="png", width=64, height=48, bytes=0, channels=4, alpha=True),
        ),
        (
            images.picture(mode="1"),
            Facts(format="png", width=64, height=48, bytes=0, channels=1, bits=1),
        ),
        (images.deep_png(), Facts(format="png", width=16, height=16, bytes=0, bits=16)),
        (
            images.png(images.header(8, 8, interlace=1), images.rows(8, 8), images.END),
            Facts(format="png", width=8, height=8, bytes=0, progressive=True),
        ),
        (images.photograph(), Facts(format="jpeg", width=512, height=600, bytes=0)),
        (
            images.picture("jpeg", progressive=True),
            Facts(format="jpeg", width=64, height=48, bytes=0, progressive=True),
        ),
        (
            images.picture("jpeg", mode="L"),
            Facts(format="jpeg", width=64, height=48, bytes=0, channels=1),
        ),
        (
            images.picture("jpeg", mode="CMYK"),
            Facts(format="jpeg", width=64, height=48, bytes=0, channels=4),
        ),
        (images.picture("webp"), Facts(format="webp", width=64, height=48, bytes=0)),
        (images.picture("webp", size=(63, 47)), Facts(format="webp", width=63, height=47, bytes=0)),
        (
            images.picture("webp", mode="RGBA"),
            Facts(format="webp", width=64, height=48, bytes=0, channels=4, alpha=True),
        ),
        (
            images.picture("webp", mode="RGBA", lossless=True),
            Facts(format="webp", width=64, height=48, bytes=0, channels=4, alpha=True),
        ),
        (images.picture("webp", lossless=True), Facts(format="webp", width=64, height=48, bytes=0)),
        (
            images.animated_webp(5),
            Facts(format="webp", width=64, height=48, bytes=0, frames=5),
        ),
        (images.animated_gif(7), Facts(format="gif", width=1, height=1, bytes=0, frames=7)),
        (images.animated_png(9), Facts(format="png", width=8, height=8, bytes=0, frames=9)),
    ],
)
def test_the_container_tells_the_facts(data: bytes, facts: Facts) -> None:
    found = inspect(data)

    assert found.bytes == len(data)
    names = ("format", "width", "height", "channels", "bits", "alpha", "frames", "progressive")
    assert {n: getattr(found, n) for n in names} == {n: getattr(facts, n) for n in names}
    assert found.content_type == f"image/{facts.format}"
    assert found.trailing == 0


def test_a_transparent_gif_has_alpha() -> None:
    plain = images.animated_gif(1)
    control = b"\x21\xf9\x04\x01\0\0\0\0"
    assert inspect(plain[:19] + control + plain[19:]).alpha
    assert not inspect(plain).alpha


@named(images.ruins())
def test_a_ruin_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        inspect(data)


@named(images.strangers())
def test_a_stranger_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match="not a PNG, JPEG or WebP"):
        inspect(data)


@named(images.bombs())
def test_a_bomb_is_refused_from_its_header(data: bytes) -> None:
    padded = data + bytes(10_000_000)  # only the header can be read in so short a time
    began = time.thread_time()
    with pytest.raises(BadImage, match="pixels"):
        inspect(padded, ANY_FORMAT)
    assert time.thread_time() - began < 0.005


@named(images.crowds())
def test_a_crowd_of_frames_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match="frames"):
        inspect(data, Limits(formats=("png", "webp", "gif")))


def test_the_frames_of_an_endless_gif_are_not_all_counted() -> None:
    assert inspect(images.animated_gif(100_000)).frames == 1000


def test_a_gif_of_nothing_but_blocks_is_refused() -> None:
    data = images.animated_gif(1)
    blocks = b"\x21\xfe" + b"\x01" * 500_000 + b"\x00"
    with pytest.raises(BadImage, match="blocks"):
        inspect(data[:-1] + blocks + b"\x3b")


@named(images.polyglots())
def test_bytes_after_the_end_are_counted(data: bytes) -> None:
    facts = inspect(data, ANY_FORMAT)

    assert facts.trailing > 0
    assert inspect(data[: facts.bytes - facts.trailing]).trailing == 0


@pytest.mark.parametrize(
    "data",
    [
        images.with_chunk(images.picture(), b"caBX", b"\0\0\0\x10jumb"),
        images.with_segment(
            images.picture("jpeg"), 0xEB, b"JP\0\1\0\0\0\1" + b"\0\0\1\0jumb\0\0\0\x26jumdc2pa"
        ),
        images.riff(images.picture("webp")[12:], images.riff_chunk(b"C2PA", b"\0\0\0\x10jumb")),
    ],
    ids=["png", "jpeg", "webp"],
)
def test_content_credentials_are_noticed(data: bytes) -> None:
    assert inspect(data).c2pa


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_exif_is_noticed(kind: str) -> None:
    exif = images.decoded(images.oriented(6)).getexif().tobytes()

    assert inspect(images.picture(kind, exif=exif)).exif
    assert not inspect(images.picture(kind)).exif
    assert not inspect(images.picture(kind)).c2pa


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_plain_image_can_be_passed_on(kind: str) -> None:
    assert inspect(images.picture(kind)).is_plain


@pytest.mark.parametrize(
    "data",
    [
        *images.polyglots().values(),
        *images.crowds().values(),
        images.oriented(6),
        images.picture("jpeg", mode="CMYK"),
        images.picture(mode="1"),
        images.picture("gif"),
        images.deep_png(),
    ],
)
def test_an_image_with_more_than_plain_pixels_is_not_passed_on(data: bytes) -> None:
    assert not inspect(data).is_plain


@pytest.mark.parametrize(
    "data",
    [
        *(images.picture(kind) for kind in ("png", "jpeg", "webp")),
        images.picture("webp", lossless=True, size=(63, 47)),
        images.picture("webp", mode="RGBA", size=(63, 47)),
        images.picture("jpeg", progressive=True),
        images.photograph(),
        images.oriented(6),
    ],
)
def test_the_first_bytes_measure_what_the_walk_finds(data: bytes) -> None:
    facts, measured = inspect(data), measure(data[:65_536], len(data), Limits())

    assert (measured.format, measured.width, measured.height, measured.bytes) == (
        facts.format,
        facts.width,
        facts.height,
        facts.bytes,
    )


@named(images.joined([images.bombs(), images.strangers()]))
def test_the_first_bytes_are_enough_to_refuse(data: bytes) -> None:
    with pytest.raises(BadImage):
        measure(data[:65_536], len(data), Limits())


def test_each_limit_is_held() -> None:
    facts = inspect(images.picture(size=(64, 48)))

    check(facts, Limits(pixels=64 * 48, side=64, bytes=facts.bytes))
    with pytest.raises(BadImage, match="at most 3071 pixels"):
        check(facts, Limits(pixels=64 * 48 - 1))
    with pytest.raises(BadImage, match="a side is at most 63"):
        check(facts, Limits(side=63))
    with pytest.raises(BadImage, match="PNG images are not accepted"):
        check(facts, Limits(formats=("jpeg",)))
    with pytest.raises(TooLarge):
        check(facts, Limits(bytes=facts.bytes - 1))


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooLarge):
        inspect(bytes(1000), Limits(bytes=999))


def test_a_bad_image_is_a_refusal_with_a_code() -> None:
    error = BadImage("no", param="image")

    assert isinstance(error, Invalid)
    assert (error.message, error.param, error.code) == ("no", "image", "invalid_image")


def test_a_mapped_file_can_be_closed_after_a_refusal(tmp_path: Path) -> None:
    file = tmp_path / "ruin"
    file.write_bytes(images.ruins()["png bad crc"])
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        pytest.raises(BadImage, match="checksum"),
    ):
        inspect(mapped)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_walked(kind: type[bytes] | type[bytearray]) -> None:
    assert inspect(kind(images.picture("jpeg"))).width == 64


def test_a_heavy_png_is_walked_in_a_few_milliseconds() -> None:
    data = images.heavy_png()
    times = []
    for _ in range(5):
        began = time.thread_time()
        inspect(data)
        times.append(time.thread_time() - began)

    assert len(data) > 1_500_000
    assert min(times) < 0.01  # 0.7 ms by itself


SEEDS = [images.picture(f) for f in ("png", "jpeg", "webp", "gif")]
SEEDS += [images.animated_webp(2), images.picture("jpeg", progressive=True)]


@given(
    seed=st.sampled_from(SEEDS),
    cut=st.integers(0, 5000),
    at=st.integers(0, 5000),
    junk=st.binary(max_size=8),
)
def test_no_damage_ends_in_anything_but_facts_or_a_refusal(
    seed: bytes, cut: int, at: int, junk: bytes
) -> None:
    data = (seed[:at] + junk + seed[at + len(junk) :])[: max(0, len(seed) - cut)]
    try:
        facts = inspect(data, ANY_FORMAT)
    except BadImage:
        return
    assert facts.width > 0
    assert facts.height > 0
    assert facts.frames > 0
    assert 0 <= facts.trailing <= len(data)
