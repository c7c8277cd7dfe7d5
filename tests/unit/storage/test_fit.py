"""How a request maps on what a deployment can: within its bounds, near, and nothing in silence."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dialect import DIALECTS, Capabilities
from storage.fit import Fit, Unfit, fit, unfit
from storage.request import Input, Request
from tests.samples import a_deployment, a_request


RATIOS = ("1:1", "2:3", "3:2", "16:9", "9:16", "21:9", "19.5:9")
TIERS = ("512", "1K", "1.5K", "2K", "3K", "4K")
# Said once more by hand: what may go without a word changes no picture.
SILENT = {"user"}

SIZES = st.builds(lambda w, h: f"{w}x{h}", st.integers(1, 16_384), st.integers(1, 16_384))
PLACES = st.tuples(st.integers(1, 9999), st.integers(1, 9999))
REQUESTS = st.builds(
    a_request,
    n=st.integers(1, 10),
    size=st.none() | st.just("auto") | SIZES,
    aspect_ratio=st.none() | st.just("auto") | st.builds("{0[0]}:{0[1]}".format, PLACES),
    resolution=st.none() | st.sampled_from([*TIERS, "2k", "8K", "huge"]),
    quality=st.none() | st.sampled_from(["auto", "low", "medium", "high", "hd", "standard", "x"]),
    background=st.none() | st.sampled_from(["auto", "opaque", "transparent"]),
    output_format=st.none() | st.sampled_from(["png", "jpeg", "webp"]),
    output_compression=st.none() | st.integers(0, 100),
    style=st.none() | st.just("vivid"),
    moderation=st.none() | st.just("low"),
    input_fidelity=st.none() | st.just("high"),
    seed=st.none() | st.integers(0, 2**32 - 1),
    negative_prompt=st.none() | st.just("no people"),
    user=st.none() | st.just("u"),
    watermark=st.none() | st.booleans(),
    partial_images=st.none() | st.integers(0, 3),
)
FLAGS = {
    field.name: st.booleans()
    for field in fields(Capabilities)
    if field.type is bool and field.name not in {"generate", "edit", "mask"}
}
CAPABILITIES = st.builds(
    Capabilities,
    sizes=st.just(()) | st.lists(SIZES, min_size=1, max_size=5, unique=True).map(tuple),
    ratios=st.just(()) | st.lists(st.sampled_from(RATIOS), min_size=1, unique=True).map(tuple),
    resolutions=st.lists(st.sampled_from(TIERS), unique=True).map(tuple),
    min_pixels=st.integers(1, 2_000_000),
    max_pixels=st.integers(2_000_000, 25_000_000),
    max_edge=st.integers(1600, 8192),
    max_ratio=st.floats(1, 16),
    multiple_of=st.sampled_from([1, 2, 8, 16, 32, 64]),
    formats=st.lists(st.sampled_from(["png", "jpeg", "webp"]), min_size=1, unique=True).map(tuple),
    qualities=st.sampled_from([(), ("low", "medium", "high"), ("standard", "hd")]),
    **FLAGS,
)


def fitted(request: Request, can: Capabilities) -> Fit:
    found = fit(request, replace(a_deployment(), capabilities=can))
    assert isinstance(found, Fit)
    return found


def lost(found: Fit) -> dict[str, tuple[object, object]]:
    return {one.param: (one.requested, one.used) for one in found.adaptations}


# -- the laws --------------------------------------------------------------------------------------


@given(REQUESTS, CAPABILITIES)
def test_nothing_is_asked_that_the_deployment_cannot_do(
    request: Request, can: Capabilities
) -> None:
    asked = fitted(request, can).request
    assert_within(asked, can)


@given(REQUESTS, st.sampled_from(list(DIALECTS.values())))
def test_nothing_is_asked_that_a_shipped_dialect_cannot_do(request: Request, dialect: Any) -> None:
    can = replace(dialect.capabilities, generate=True)
    assert_within(fitted(request, can).request, can)


@given(REQUESTS, CAPABILITIES)
def test_what_is_asked_fits_without_any_further_loss(request: Request, can: Capabilities) -> None:
    asked = fitted(request, can).request
    again = fitted(asked, can)
    assert again.request == asked
    assert again.adaptations == ()


@given(REQUESTS, CAPABILITIES)
def test_whatever_is_changed_is_said(request: Request, can: Capabilities) -> None:
    found = fitted(request, can)
    said = {one.param for one in found.adaptations}
    for field in fields(Request):
        before, after = getattr(request, field.name), getattr(found.request, field.name)
        if before == after or before is None or field.name in SILENT:
            continue
        if changes_nothing(request, found.request, field.name, can):
            continue
        assert field.name in said, field.name


@given(REQUESTS, CAPABILITIES)
def test_each_parameter_is_named_at_most_once_and_as_it_was_asked(
    request: Request, can: Capabilities
) -> None:
    adaptations = fitted(request, can).adaptations
    assert len({one.param for one in adaptations}) == len(adaptations)
    for one in adaptations:
        if one.param != "negative_prompt":
            assert one.requested == getattr(request, one.param)
        assert one.requested != one.used or one.requested is None
        assert (one.action == "dropped") == (one.used is None)


@given(SIZES, st.lists(st.sampled_from(RATIOS), min_size=1, unique=True).map(tuple))
def test_the_ratio_is_the_nearest_there_is(size: str, ratios: tuple[str, ...]) -> None:
    chosen = fitted(a_request(size=size), Capabilities(ratios=ratios)).request.aspect_ratio
    width, height = (int(side) for side in size.split("x"))
    assert chosen is not None
    distances = {ratio: abs(math.log(width / height / value(ratio))) for ratio in ratios}
    assert distances[chosen] == min(distances.values())


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 8, 16, 64]))
def test_a_size_that_is_allowed_is_asked_as_it_is(across: int, down: int, step: int) -> None:
    can = Capabilities(multiple_of=step, max_ratio=64)
    wanted = a_request(size=f"{across * step}x{down * step}")
    assert fitted(wanted, can) == Fit(wanted)


@given(st.integers(256, 4096), st.integers(256, 4096))
def test_a_size_off_the_grid_keeps_its_shape_and_about_its_area(width: int, height: int) -> None:
    can = Capabilities(multiple_of=16)
    pixels = fitted(a_request(size=f"{width}x{height}"), can).request.pixels
    assert pixels is not None
    assert abs(math.log(pixels[0] / pixels[1] * height / width)) < 0.035
    assert abs(math.log(pixels[0] * pixels[1] / (width * height))) < 0.15


def assert_within(asked: Request, can: Capabilities) -> None:
    assert asked.size is None or asked.pixels is not None
    if asked.pixels is not None:
        assert not can.ratios
        if can.sizes:
            assert asked.size in can.sizes
        else:
            assert is_allowed(*asked.pixels, can)
    assert asked.aspect_ratio is None or asked.aspect_ratio in can.ratios
    assert asked.resolution is None or asked.resolution in can.resolutions
    assert asked.quality is None or asked.quality in can.qualities
    assert asked.background in {None, "auto", "opaque", "transparent"}
    assert asked.background is None or can.transparency
    for param in ("style", "moderation", "input_fidelity", "seed", "negative_prompt", "user"):
        assert getattr(asked, param) is None or getattr(can, param), param
    assert asked.watermark is None or can.watermark
    assert asked.partial_images is None or can.stream


def is_allowed(width: int, height: int, can: Capabilities) -> bool:
    return (
        width % can.multiple_of == height % can.multiple_of == 0
        and max(width, height) <= can.max_edge
        and can.min_pixels <= width * height <= can.max_pixels
        and max(width, height) / min(width, height) <= can.max_ratio * (1 + 1e-12)
    )


def changes_nothing(before: Request, after: Request, param: str, can: Capabilities) -> bool:
    """Say whether the picture is the same with this parameter said differently or not at all."""
    asked: Any = getattr(before, param)
    if asked == "auto" or (param == "background" and asked == "opaque"):
        return True
    if param == "watermark":  # where the upstream makes none, the worker draws it
        return True
    if param == "partial_images":
        return bool(asked == 0)
    if param == "aspect_ratio" and after.aspect_ratio is not None:
        return math.isclose(value(asked), value(after.aspect_ratio))
    if param == "aspect_ratio" and after.pixels is not None:
        shape = after.pixels[0] / after.pixels[1]
        return abs(math.log(shape / value(asked))) < 0.03
    if param == "resolution" and after.pixels is not None:
        edge = math.sqrt(after.pixels[0] * after.pixels[1])
        return 0.8 < edge / tier(asked) < 1.25
    if param == "resolution":
        return bool(after.resolution == asked.upper())
    return False


def value(ratio: str) -> float:
    wide, _, tall = ratio.partition(":")
    return float(wide) / float(tall)


def tier(name: str) -> float:
    known = dict(zip(TIERS, (512, 1024, 1536, 2048, 3072, 4096), strict=True))
    return known.get(name.upper(), math.inf)


# -- cases -----------------------------------------------------------------------------------------


def test_a_plain_request_goes_through_untouched() -> None:
    assert fitted(a_request(), Capabilities()) == Fit(a_request())


@pytest.mark.parametrize(
    ("size", "chosen"),
    [
        ("1024x1024", "1024x1024"),
        ("1000x1000", "1008x1008"),
        ("256x256", "816x816"),
        ("4096x4096", "2880x2880"),
        ("3000x1000", "3024x1008"),
        ("9000x1000", "3840x1280"),
    ],
)
def test_openais_grid(size: str, chosen: str) -> None:
    found = fitted(a_request(size=size), DIALECTS["openai"].capabilities)
    assert found.request.size == chosen
    assert lost(found) == ({} if size == chosen else {"size": (size, chosen)})


def test_fixed_sizes_prefer_the_shape_over_the_area() -> None:
    can = Capabilities(sizes=("1024x1024", "1536x1024", "1024x1536"))
    assert fitted(a_request(size="3000x2000"), can).request.size == "1536x1024"


def test_a_ratio_becomes_pixels_where_there_are_only_pixels() -> None:
    found = fitted(a_request(aspect_ratio="16:9", resolution="2K"), Capabilities())
    assert found.request.pixels == (2731, 1536)
    assert found.adaptations == ()


def test_a_ratio_that_is_cut_off_is_said() -> None:
    found = fitted(a_request(aspect_ratio="8:1"), Capabilities(max_ratio=2.0))
    assert found.request.pixels is not None
    assert lost(found) == {"aspect_ratio": ("8:1", found.request.size)}


def test_a_resolution_that_is_too_much_is_said() -> None:
    found = fitted(a_request(resolution="4K"), Capabilities(max_pixels=1024 * 1024))
    assert lost(found) == {"resolution": ("4K", "1024x1024")}


def test_pixels_become_a_ratio_and_a_tier_where_there_are_only_those() -> None:
    can = Capabilities(ratios=("1:1", "16:9"), resolutions=("1K", "2K"))
    found = fitted(a_request(size="1920x1080"), can)
    assert (found.request.aspect_ratio, found.request.resolution) == ("16:9", "2K")
    assert found.request.size is None
    assert lost(found) == {"size": ("1920x1080", "16:9 2K")}


def test_the_same_ratio_in_other_words_is_no_loss() -> None:
    found = fitted(a_request(aspect_ratio="32:18"), Capabilities(ratios=("16:9",)))
    assert (found.request.aspect_ratio, found.adaptations) == ("16:9", ())


def test_a_deployment_whose_bounds_leave_no_size_is_not_asked_for_one() -> None:
    can = Capabilities(min_pixels=100, max_pixels=110, multiple_of=64)
    found = fitted(a_request(size="10x10"), can)
    assert (found.request.size, lost(found)) == (None, {"size": ("10x10", None)})


@pytest.mark.parametrize(
    ("asked", "used"),
    [("hd", "high"), ("standard", "medium"), ("low", "low"), ("xhigh", "high"), ("odd", "medium")],
)
def test_the_quality_is_the_nearest_there_is(asked: str, used: str) -> None:
    can = Capabilities(qualities=("low", "medium", "high"))
    assert fitted(a_request(quality=asked), can).request.quality == used


def test_a_prompt_of_what_not_to_show_is_not_repeated_in_a_warning() -> None:
    found = fitted(a_request(negative_prompt="a secret"), Capabilities())
    assert lost(found) == {"negative_prompt": (None, None)}


def test_compression_that_we_apply_ourselves_is_no_loss() -> None:
    can = Capabilities(formats=("png",), compression=False)
    wanted = a_request(output_format="jpeg", output_compression=40)
    assert fitted(wanted, can) == Fit(wanted)
    nobody = fitted(a_request(output_format="png", output_compression=40), can)
    assert lost(nobody) == {"output_compression": (40, None)}


# -- what cannot be done at all --------------------------------------------------------------------

ONE = (Input(key="a"),)


@pytest.mark.parametrize(
    ("request_", "can", "param"),
    [
        (a_request(images=ONE), Capabilities(), "image"),
        (a_request(), Capabilities(generate=False, edit=True), "image"),
        (a_request(images=ONE, mask=Input(key="m")), Capabilities(edit=True), "mask"),
        (a_request(images=ONE * 3), Capabilities(edit=True, references=2), "image"),
        (a_request(images=ONE * 2), Capabilities(edit=True), "image"),
    ],
    ids=["no edits", "only edits", "no masks", "too many images", "one image only"],
)
def test_what_cannot_be_done_is_refused(request_: Request, can: Capabilities, param: str) -> None:
    deployment = replace(a_deployment(), capabilities=can)
    refusal = fit(request_, deployment)
    assert isinstance(refusal, Unfit)
    assert refusal == unfit(request_, deployment)
    assert refusal.param == param


def test_an_edit_of_one_image_needs_no_count_of_references() -> None:
    assert fitted(a_request(images=ONE), Capabilities(edit=True)).adaptations == ()
