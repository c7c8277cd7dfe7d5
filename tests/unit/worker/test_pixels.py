import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms

from storage.container import inspect
from storage.facts import BadImage, Limits
from tests import images
from worker.pixels import codec, mask
from worker.pixels.codec import convert, decode_check, normalise_input, resize


LIMITS = Limits()
DAMAGED = Limits(pixels=1_000_000, formats=("jpeg", "webp", "gif"))
GREYS = Image.frombytes("L", (8, 8), bytes(range(64)))
ANY_FORMAT = Limits(formats=("png", "jpeg", "webp", "gif"), frames=5000)


def named(samples: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("data", samples.values(), ids=samples.keys())


def differs(one: Image.Image, other: Image.Image) -> int:
    """Return the largest difference of any sample."""
    difference = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))
    return max(high for _, high in difference.getextrema())  # type: ignore[misc]  # RGBA has pairs


@named(images.joined([images.ruins(), images.strangers(), images.bombs(), images.crowds()]))
def test_no_bad_file_reaches_the_decoder(data: bytes) -> None:
    with pytest.raises(BadImage):
        normalise_input(data, limits=LIMITS)


def test_a_sound_container_around_broken_pixels_is_refused() -> None:
    garbage = images.png(images.header(64, 64), images.chunk(b"IDAT", b"x" * 500), images.END)
    empty = images.riff(images.webp_bomb(64, 64)[12:24] + bytes(4))
    for data in (garbage, empty):
        assert inspect(data).width == 64
        with pytest.raises(BadImage, match="cannot be decoded"):
            decode_check(data, limits=LIMITS)


def test_pixels_beyond_the_picture_are_not_inflated() -> None:
    assert decode_check(images.long_png(), limits=LIMITS)["width"] == 8


def test_text_that_inflates_to_megabytes_is_refused_or_dropped() -> None:
    for kind, body in (
        (b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9)),
        (b"iCCP", b"p\0\0" + zlib.compress(bytes(100_000_000), 9)),
        (b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(100_000_000), 9)),
    ):
        data = images.with_chunk(images.picture(), kind, body)
        try:
            out = normalise_input(data, limits=LIMITS)
        except BadImage:
            continue
        assert len(out) < 20_000


@pytest.mark.parametrize(
    "data",
    [
        images.picture(mode="1"),
        images.picture(mode="L"),
        images.picture(mode="LA"),
        images.picture(mode="P"),
        images.picture(mode="P", transparency=3),
        images.picture(mode="RGBA"),
        images.picture("jpeg", mode="L"),
        images.picture("jpeg", mode="CMYK"),
        images.picture("webp", mode="RGBA"),
        images.encoded(images.pixels("I;16")),
        images.deep_png(),
        images.oriented(1),
    ],
)
def test_every_kind_of_pixel_becomes_plain(data: bytes) -> None:
    out = normalise_input(data, limits=LIMITS)

    facts, image = inspect(out), images.decoded(out)
    assert facts.format == "png"
    assert facts.bits == 8
    assert image.mode in {"RGB", "RGBA"}
    assert facts.alpha == inspect(data).alpha
    assert image.size == images.decoded(data).size
    assert image.info == {}
    assert not facts.exif
    assert facts.trailing == 0


def test_plain_pixels_are_kept_exactly() -> None:
    for mode in ("RGB", "RGBA"):
        out = normalise_input(images.picture(mode=mode), limits=LIMITS)
        assert images.decoded(out).tobytes() == images.pixels(mode).tobytes()


def test_sixteen_bits_become_eight_by_scale_not_by_clipping() -> None:
    grey = Image.new("I;16", (4, 4), 0x8000)
    for data in (images.encoded(grey), images.deep_png((4, 4))):
        image = images.decoded(normalise_input(data, limits=LIMITS))
        assert image.getpixel((0, 0))[0] == 0x80  # type: ignore[index]  # a tuple in RGB


def test_cmyk_looks_the_same_in_rgb() -> None:
    out = images.decoded(normalise_input(images.picture("jpeg", mode="CMYK"), limits=LIMITS))

    assert differs(out, images.pixels("CMYK").convert("RGB")) < 60


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_an_orientation_is_applied_and_forgotten(orientation: int) -> None:
    data = images.oriented(orientation, size=(64, 48))
    out = normalise_input(data, limits=LIMITS)

    turned = orientation >= 5
    assert images.decoded(out).size == ((48, 64) if turned else (64, 48))
    assert decode_check(data, limits=LIMITS)["width"] == (48 if turned else 64)
    assert b"Exif" not in out
    assert b"script" not in out


def test_a_senseless_orientation_is_ignored() -> None:
    assert images.decoded(normalise_input(images.oriented(99), limits=LIMITS)).size == (64, 48)


def test_a_broken_exif_record_does_not_cost_the_image() -> None:
    for junk in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 500):
        data = images.with_segment(images.picture("jpeg"), 0xE1, junk)
        assert images.decoded(normalise_input(data, limits=LIMITS)).size == (64, 48)


def test_a_broken_or_huge_profile_does_not_cost_the_image() -> None:
    for profile in (b"junk", bytes(900_000), images.strangers()["html"]):
        data = images.picture(icc_profile=profile)
        out = normalise_input(data, limits=LIMITS)
        assert images.decoded(out).tobytes() == images.pixels().tobytes()
        assert len(out) < 20_000


def test_a_foreign_profile_is_applied_and_dropped() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    for profile in (lab.tobytes(), srgb.tobytes()):
        out = images.decoded(normalise_input(images.picture(icc_profile=profile), limits=LIMITS))
        assert "icc_profile" not in out.info
        assert differs(out, images.pixels()) <= 2


@named(images.polyglots())
def test_a_polyglot_loses_its_second_meaning(data: bytes) -> None:
    out = convert(data, format="png", compression=None, background=None, limits=ANY_FORMAT)

    assert b"alert" not in out
    assert b"PK" not in out
    assert inspect(out).trailing == 0


def test_the_first_frame_is_taken_where_frames_are_allowed() -> None:
    out = normalise_input(images.animated_webp(), limits=ANY_FORMAT)

    assert inspect(out).frames == 1
    assert differs(images.decoded(out), images.pixels(seed=0)) < 60


@pytest.mark.parametrize("target", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
def test_every_format_becomes_every_other(source: str, target: str) -> None:
    data = images.picture(source)
    out = convert(data, format=target, compression=None, background=None, limits=LIMITS)

    facts = inspect(out)
    assert (facts.format, facts.width, facts.height) == (target, 64, 48)
    assert differs(images.decoded(out), images.pixels()) < 60


@pytest.mark.parametrize("target", ["jpeg", "webp"])
def test_compression_is_the_quality(target: str) -> None:
    sizes = [
        len(
            convert(
                images.photograph(), format=target, compression=q, background=None, limits=LIMITS
            )
        )
        for q in (0, 40, 100)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("target", "background", "alpha"),
    [
        ("png", None, True),
        ("png", "auto", True),
        ("png", "transparent", True),
        ("png", "opaque", False),
        ("webp", None, True),
        ("webp", "opaque", False),
        ("jpeg", None, False),
        ("jpeg", "transparent", False),
    ],
)
def test_alpha_is_kept_or_laid_on_white(target: str, background: str | None, alpha: bool) -> None:
    clear = images.encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0)))
    out = convert(clear, format=target, compression=None, background=background, limits=LIMITS)

    assert inspect(out).alpha == alpha
    if not alpha:
        assert min(images.decoded(out).convert("L").tobytes()) >= 250


@pytest.mark.parametrize(
    ("data", "transparent"),
    [
        (images.picture(), False),
        (images.encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255))), False),
        (images.encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 254))), True),
        (images.picture("webp", mode="RGBA"), True),
        (images.picture("jpeg"), False),
        (images.encoded(GREYS.convert("P"), transparency=0), True),
        (images.encoded(GREYS.convert("P"), transparency=255), False),
    ],
)
def test_a_full_decode_tells_whether_anything_is_see_through(
    data: bytes, transparent: bool
) -> None:
    assert decode_check(data, limits=LIMITS)["transparent"] is transparent


@pytest.mark.parametrize(
    ("width", "size"), [(256, (256, 300)), (512, (512, 600)), (9000, (512, 600)), (1, (1, 1))]
)
def test_an_image_is_made_smaller_never_larger(width: int, size: tuple[int, int]) -> None:
    out = resize(images.photograph(), width=width, format="webp", compression=80, limits=LIMITS)

    facts = inspect(out)
    assert (facts.format, facts.width, facts.height) == ("webp", *size)


# --- masks

BOX = (8, 8, 32, 24)
MASK = images.mask((64, 48), BOX)


def test_a_mask_that_fits_is_accepted() -> None:
    mask.check_mask(MASK, width=64, height=48, limits=LIMITS)
    mask.check_mask(images.mask((64, 48), BOX, kind="webp"), width=64, height=48, limits=LIMITS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (images.mask((64, 47), BOX), "64x47 but the image is 64x48"),
        (images.mask((64, 48), BOX, mode="RGB"), "no alpha"),
        (images.picture("jpeg"), "no alpha"),
        (images.encoded(Image.new("RGBA", (64, 48), "white")), "nothing may change"),
        (images.png_bomb(), "pixels"),
        (b"<svg/>", "not a PNG"),
    ],
)
def test_a_mask_that_is_of_no_use_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        mask.check_mask(data, width=64, height=48, limits=LIMITS)


def test_the_two_kinds_of_mask_turn_into_each_other() -> None:
    white = mask.mask_to_white(MASK, limits=LIMITS)
    image = images.decoded(white)
    assert image.mode == "L"
    assert (image.getpixel((10, 10)), image.getpixel((0, 0))) == (255, 0)

    back = images.decoded(mask.white_to_mask(white, limits=LIMITS))
    assert back.getchannel("A").tobytes() == images.decoded(MASK).getchannel("A").tobytes()


def test_an_unknown_format_is_a_fault_of_the_caller() -> None:
    options: dict[str, Any] = {"compression": None, "background": None, "limits": LIMITS}
    with pytest.raises(KeyError):
        convert(images.picture(), format="bmp", **options)


# --- chance

SEEDS = [images.picture(kind, size=(40, 30)) for kind in ("jpeg", "webp", "gif")]
SEEDS += [images.picture("webp", mode="RGBA", lossless=True), images.oriented(6, size=(40, 30))]


@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 1500), junk=st.binary(min_size=1, max_size=6))
@settings(deadline=None)
def test_no_damage_ends_in_anything_but_pixels_or_a_refusal(
    seed: bytes, at: int, junk: bytes
) -> None:
    at %= len(seed)
    try:
        image = codec.plain(codec.load(seed[:at] + junk + seed[at + len(junk) :], DAMAGED))
    except BadImage:
        return
    assert image.mode in {"RGB", "RGBA"}
    assert image.width * image.height <= DAMAGED.pixels
