from collections.abc import AsyncIterator
from itertools import pairwise
from math import sqrt
from typing import Any, cast

import pytest
import pytest_asyncio
from PIL import Image, ImageChops, ImageFilter, ImageStat

from storage.attempt import Usage
from storage.catalog import parse
from storage.container import inspect
from storage.failure import Failure, FailureCode
from storage.request import Adaptation
from tests import images
from worker.imaging import Imaging
from worker.provider import (
    Order,
    Partial,
    Picture,
    Progress,
    Provider,
    ProviderError,
    Reply,
    Source,
    Tools,
)
from worker.providers.sketch import Sketch
from worker.web import Web


DEPLOYMENT = parse('[[deployments]]\nname = "s"\nmodel = "sketch"\nprovider = "sketch"\n')
BOX = (120, 60, 330, 300)


# One loop for all, so that all share two children.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def imaging() -> AsyncIterator[Imaging]:
    door = Imaging(children=2)
    yield door
    await door.close()


@pytest.fixture
def sketch(imaging: Imaging) -> Sketch:
    (deployment,) = DEPLOYMENT.deployments
    return Sketch(deployment, None, Tools(web=cast("Web", None), imaging=imaging))


def order(**asked: Any) -> Order:
    defaults: dict[str, Any] = {"job_id": "job_1", "attempt": 1, "edit": False, "model": "sketch"}
    size = {} if asked.get("edit") else {"width": 96, "height": 64}
    return Order(**{**defaults, "prompt": "a boat on a lake", **size, **asked})


def source(data: bytes) -> Source:
    facts = inspect(data)
    return Source(
        data=data,
        content_type=facts.content_type,
        filename="image",
        width=facts.width,
        height=facts.height,
    )


def edit(*data: bytes, mask: bytes | None = None, **asked: Any) -> Order:
    sources = tuple(source(each) for each in data)
    return order(edit=True, images=sources, mask=mask and source(mask), **asked)


class Seen:
    """What a provider told on its way."""

    def __init__(self) -> None:
        self.partials: list[Partial] = []
        self.ids: list[str] = []

    async def submitted(self, upstream_id: str) -> None:
        self.ids.append(upstream_id)

    async def previewed(self, partial: Partial) -> None:
        self.partials.append(partial)

    def progress(self) -> Progress:
        return Progress(submitted=self.submitted, previewed=self.previewed)


async def reply(sketch: Provider, asked: Order) -> Reply:
    return await sketch.generate(asked, Seen().progress())


async def drawn(sketch: Provider, asked: Order) -> list[bytes]:
    outcomes = (await reply(sketch, asked)).outcomes
    assert all(isinstance(outcome, Picture) for outcome in outcomes)
    return [outcome.data for outcome in outcomes if isinstance(outcome, Picture)]


async def image(sketch: Provider, asked: Order) -> Image.Image:
    (data,) = await drawn(sketch, asked)
    return images.decoded(data)


def apart(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of a sample, 0 to 255."""
    difference = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    return sum(ImageStat.Stat(difference).mean) / 3


def changed(one: Image.Image, other: Image.Image) -> float:
    """Return the share of pixels that differ at all."""
    red, green, blue = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return 1 - most.histogram()[0] / (one.width * one.height)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", None])
@pytest.mark.parametrize("size", [(1024, 1024), (1536, 1024), (333, 777)])
async def test_the_picture_has_the_asked_size_and_format(
    sketch: Sketch, size: tuple[int, int], output_format: str | None
) -> None:
    asked = order(width=size[0], height=size[1], output_format=output_format)
    (data,) = await drawn(sketch, asked)

    facts = inspect(data)
    assert (facts.width, facts.height) == size
    assert facts.format == (output_format or "png")
    assert not facts.alpha
    assert not facts.trailing


async def test_no_size_means_a_square_of_1024(sketch: Sketch) -> None:
    assert (await image(sketch, order(width=None, height=None))).size == (1024, 1024)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (1200, 16), (16, 1200)])
@pytest.mark.parametrize("seed", range(6))
async def test_odd_sizes_are_drawn_too(sketch: Sketch, size: tuple[int, int], seed: int) -> None:
    assert (await image(sketch, order(width=size[0], height=size[1], seed=seed))).size == size


@pytest.mark.parametrize("prompt", ["", "猫と宇宙飛行士 🚀", "\ud800 alone", "x" * 32_000, "\0"])
async def test_any_words_will_do(sketch: Sketch, prompt: str) -> None:
    assert (await image(sketch, order(prompt=prompt))).size == (96, 64)


@pytest.mark.parametrize("quality", [None, "low", "medium", "high"])
async def test_pictures_are_rich_not_blank(sketch: Sketch, quality: str | None) -> None:
    for seed in range(8):
        picture = await image(sketch, order(width=256, height=256, seed=seed, quality=quality))
        assert len(picture.getcolors(1 << 20) or []) > 500
        assert max(ImageStat.Stat(picture).stddev) > 15


async def test_the_same_order_gives_the_same_bytes(sketch: Sketch) -> None:
    assert await drawn(sketch, order(seed=7, n=2)) == await drawn(sketch, order(seed=7, n=2))


async def test_prompt_seed_and_index_each_change_the_picture(sketch: Sketch) -> None:
    first = await image(sketch, order(seed=7))

    assert apart(first, await image(sketch, order(seed=8))) > 5
    assert apart(first, await image(sketch, order(seed=7, prompt="a boat on a sea"))) > 5
    assert apart(first, await image(sketch, order(seed=7, first_index=1))) > 5


async def test_n_pictures_are_n_different_ones(sketch: Sketch) -> None:
    pictures = [images.decoded(data) for data in await drawn(sketch, order(n=4, seed=1))]

    assert len(pictures) == 4
    for number, one in enumerate(pictures):
        assert all(apart(one, other) > 5 for other in pictures[:number])


async def test_the_second_call_of_a_job_goes_on_where_the_first_ended(sketch: Sketch) -> None:
    whole = await drawn(sketch, order(n=3, seed=1))
    rest = await drawn(sketch, order(n=1, seed=1, first_index=2))

    assert rest == whole[2:]


async def test_without_a_seed_the_job_decides(sketch: Sketch) -> None:
    assert await drawn(sketch, order()) == await drawn(sketch, order(attempt=2))
    assert await drawn(sketch, order()) != await drawn(sketch, order(job_id="job_2"))


async def test_it_says_what_it_cost(sketch: Sketch) -> None:
    answer = await reply(sketch, order(n=2))

    assert answer.cost == 0.0
    assert answer.usage == Usage(images=2)
    assert answer.adaptations == ()
    assert answer.upstream_id is None
    assert [o.revised_prompt for o in answer.outcomes if isinstance(o, Picture)] == [None, None]


@pytest.mark.parametrize("output_format", ["png", "webp"])
async def test_a_transparent_background_is_transparent(sketch: Sketch, output_format: str) -> None:
    asked = order(background="transparent", output_format=output_format, width=256, height=256)
    picture = await image(sketch, asked)

    alpha = picture.getchannel("A")
    assert alpha.getpixel((0, 0)) == 0
    assert alpha.getpixel((128, 128)) == 255
    assert 0.3 < sum(1 for value in alpha.tobytes() if value > 128) / 256**2 < 0.9


async def test_a_jpeg_cannot_be_transparent_and_the_reply_says_so(sketch: Sketch) -> None:
    answer = await reply(sketch, order(background="transparent", output_format="jpeg"))

    assert answer.adaptations == (
        Adaptation(param="background", action="adapted", requested="transparent", used="opaque"),
    )


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
async def test_compression_makes_it_smaller(sketch: Sketch, output_format: str) -> None:
    sizes = [
        len(
            (await drawn(sketch, order(output_format=output_format, output_compression=q, seed=1)))[
                0
            ]
        )
        for q in (10, 90)
    ]
    assert sizes[0] < sizes[1]


async def test_a_label_says_what_it_is(sketch: Sketch) -> None:
    picture = (await image(sketch, order(width=512, height=512, seed=3))).convert("L")
    corner = picture.crop((440, 480, 512, 512))

    assert corner.getextrema()[1] > 200  # type: ignore[operator]  # L has one pair
    assert corner.filter(ImageFilter.FIND_EDGES).getextrema()[1] > 100  # type: ignore[operator]  # as above


# --- edits


@pytest.mark.parametrize("kind", ["png", "webp"])
async def test_nothing_outside_the_mask_changes(sketch: Sketch, kind: str) -> None:
    before = images.decoded(images.photograph())
    mask = images.mask((512, 600), BOX, kind=kind)
    after = await image(sketch, edit(images.photograph(), mask=mask, seed=1))

    assert after.size == before.size
    assert changed(before.crop(BOX), after.crop(BOX)) > 0.95
    assert apart(before.crop(BOX), after.crop(BOX)) > 20
    restored = after.copy()
    restored.paste(before.crop(BOX), BOX)
    assert restored.tobytes() == before.tobytes()


async def test_half_transparent_pixels_of_the_mask_are_kept(sketch: Sketch) -> None:
    before = images.pixels(size=(128, 128))
    mask = Image.new("RGBA", (128, 128), (0, 0, 0, 1))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 128))
    after = await image(sketch, edit(images.encoded(before), mask=images.encoded(mask)))

    assert after.crop((64, 0, 128, 128)).tobytes() == before.crop((64, 0, 128, 128)).tobytes()
    assert changed(before.crop((0, 0, 64, 128)), after.crop((0, 0, 64, 128))) > 0.9


async def test_a_mask_of_scattered_pixels_is_followed(sketch: Sketch) -> None:
    before = images.pixels(size=(64, 64))
    mask = Image.new("RGBA", (64, 64))
    mask.putalpha(Image.frombytes("L", (64, 64), bytes((0, 255) * 2048)))
    after = await image(sketch, edit(images.encoded(before), mask=images.encoded(mask)))

    kept = [after.getpixel((x, 5)) == before.getpixel((x, 5)) for x in range(64)]
    assert all(kept[1::2])
    assert sum(kept[0::2]) < 5


async def test_without_a_mask_the_whole_picture_changes_and_stays_recognisable(
    sketch: Sketch,
) -> None:
    before = images.decoded(images.photograph())
    after = await image(sketch, edit(images.photograph(), seed=1))

    assert changed(before, after) > 0.95
    assert apart(before, after) > 20
    assert likeness(before, after) > 0.4


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Return how brightness correlates over a grid, -1 to 1."""
    left, right = (list(each.convert("L").resize((24, 24)).tobytes()) for each in (one, other))
    mean = [sum(values) / len(values) for values in (left, right)]
    pairs = [(a - mean[0], b - mean[1]) for a, b in zip(left, right, strict=True)]
    spread = sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    return sum(a * b for a, b in pairs) / spread


async def test_another_prompt_is_another_edit(sketch: Sketch) -> None:
    one = await image(sketch, edit(images.photograph(), prompt="in spring", seed=1))
    other = await image(sketch, edit(images.photograph(), prompt="in winter", seed=1))

    assert apart(one, other) > 10


async def test_every_reference_leaves_a_trace(sketch: Sketch) -> None:
    refs = [images.picture(seed=seed, size=(200, 100)) for seed in range(4)]
    pictures = [
        await image(sketch, edit(images.photograph(), *refs[:count], seed=1)) for count in range(5)
    ]
    for one, other in pairwise(pictures):
        assert apart(one, other) > 5


async def test_sixteen_references_are_taken(sketch: Sketch) -> None:
    asked = edit(*[images.picture(seed=seed) for seed in range(16)], width=256, height=256)
    assert (await image(sketch, asked)).size == (256, 256)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
async def test_an_edit_has_the_asked_size_and_format(sketch: Sketch, output_format: str) -> None:
    mask = images.mask((512, 600), BOX)
    asked = edit(images.photograph(), mask=mask, width=300, height=200, output_format=output_format)
    (data,) = await drawn(sketch, asked)

    facts = inspect(data)
    assert (facts.format, facts.width, facts.height) == (output_format, 300, 200)


async def test_transparency_of_the_input_is_kept_outside_the_mask(sketch: Sketch) -> None:
    before = images.pixels("RGBA", (96, 96))
    asked = edit(images.encoded(before), mask=images.mask((96, 96), (0, 0, 48, 48)))
    after = await image(sketch, asked)

    assert after.mode == "RGBA"
    assert after.crop((48, 0, 96, 96)).tobytes() == before.crop((48, 0, 96, 96)).tobytes()
    assert after.crop((0, 0, 48, 48)).getchannel("A").getextrema() == (255, 255)


@pytest.mark.parametrize(
    "data",
    [
        images.oriented(6),
        images.picture("jpeg", mode="CMYK"),
        images.deep_png(),
        images.picture(mode="P", transparency=0),
        images.picture(mode="1"),
    ],
)
async def test_any_kind_of_image_can_be_edited(sketch: Sketch, data: bytes) -> None:
    assert await drawn(sketch, edit(data))


@pytest.mark.parametrize(
    ("data", "mask"),
    [
        (images.ruins()["png cut"], None),
        (images.png_bomb(), None),
        (images.picture(), images.mask((64, 47), (0, 0, 8, 8))),
        (images.picture(), images.picture("jpeg")),
    ],
)
async def test_a_bad_input_is_the_end_and_not_retried(
    sketch: Sketch, data: bytes, mask: bytes | None
) -> None:
    asked = order(
        edit=True,
        images=(Source(data=data, content_type="image/png", filename="x", width=64, height=48),),
        mask=mask and source(mask),
    )
    with pytest.raises(ProviderError) as caught:
        await reply(sketch, asked)

    assert caught.value.code is FailureCode.INVALID_IMAGE
    assert not caught.value.code.retryable
    assert caught.value.cost == 0.0


# --- previews and trouble


@pytest.mark.parametrize("asked", [order(width=256, height=256), edit(images.photograph())])
async def test_previews_come_first_and_get_finer(sketch: Sketch, asked: Order) -> None:
    seen = Seen()
    fields = {name: getattr(asked, name) for name in asked.__dataclass_fields__}
    answer = await sketch.generate(
        Order(**{**fields, "partial_images": 3, "seed": 5}), seen.progress()
    )

    (final,) = (images.decoded(o.data) for o in answer.outcomes if isinstance(o, Picture))
    previews = [images.decoded(partial.data) for partial in seen.partials]
    assert [(p.index, p.sequence) for p in seen.partials] == [(0, 0), (0, 1), (0, 2)]
    assert {preview.size for preview in previews} == {final.size}
    distances = [apart(preview, final) for preview in previews]
    assert distances == sorted(distances, reverse=True)
    assert 0 < distances[-1] < distances[0] < 40


async def test_each_of_n_pictures_has_its_previews(sketch: Sketch) -> None:
    seen = Seen()
    await sketch.generate(order(n=3, partial_images=2), seen.progress())

    told = sorted((p.index, p.sequence) for p in seen.partials)
    assert told == [(index, sequence) for index in range(3) for sequence in range(2)]


async def test_no_previews_unless_asked(sketch: Sketch) -> None:
    seen = Seen()
    await sketch.generate(order(), seen.progress())

    assert seen.partials == []
    assert seen.ids == []


async def test_too_much_work_is_a_reason_to_try_again() -> None:
    (deployment,) = DEPLOYMENT.deployments
    door = Imaging(children=1, waiting=1)
    sketch = Sketch(deployment, None, Tools(web=cast("Web", None), imaging=door))
    answer = await reply(sketch, order(n=6))
    await door.close()

    failures = [o for o in answer.outcomes if isinstance(o, Failure)]
    assert failures
    assert len(failures) < 6
    assert all(failure.code is FailureCode.OVERLOADED for failure in failures)
    assert answer.usage == Usage(images=6 - len(failures))


async def test_a_closed_worker_ends_the_attempt() -> None:
    (deployment,) = DEPLOYMENT.deployments
    door = Imaging()
    sketch = Sketch(deployment, None, Tools(web=cast("Web", None), imaging=door))
    await door.close()
    with pytest.raises(ProviderError) as caught:
        await reply(sketch, order(n=2))

    assert caught.value.code is FailureCode.UPSTREAM_ERROR


async def test_a_refused_preview_stops_the_drawing(sketch: Sketch) -> None:
    class Superseded(Exception):
        pass

    async def refuse(partial: Partial) -> None:
        raise Superseded

    seen = Seen()
    with pytest.raises(Superseded):
        await sketch.generate(
            order(n=3, partial_images=1), Progress(submitted=seen.submitted, previewed=refuse)
        )
