"""Renditions that are asked for later: made once, beside the image, whoever dies on the way."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from storage.image import Image
from storage.job import Job
from storage.queue import render_task
from storage.redis_client import Commands
from storage.rendition import PRESETS, Recipe, RenditionStatus
from tests import images
from tests.doubles import Clock, Painter, paint
from tests.samples import a_job
from tests.unit.worker.workshop import Workshop, opened
from worker.outcome import Again, Nothing
from worker.rendering import Rendering
from worker.renditions import Renditions


RECIPES = tuple(PRESETS.values())
PICTURE = images.picture("png", size=(600, 300))


@pytest.fixture
async def shop(commands: Commands, clock: Clock, tmp_path: Path) -> AsyncIterator[Workshop]:
    async with opened(commands, clock, tmp_path) as workshop:
        yield workshop


def rendering(shop: Workshop) -> Rendering:
    renditions = Renditions(shop.objects, shop.imaging, patience=0.2)
    return Rendering(shop.jobs, shop.objects, renditions, label=True)


async def asked(shop: Workshop) -> Job:
    """Return a job that has ended and of whose image renditions are wanted."""
    job = await shop.added(a_job())
    await shop.executor(Painter(paint(data=PICTURE))).run(job.id)
    ended = await shop.found(job)
    wanting = ended.with_image(ended.images[0].asked(RECIPES))
    written = await shop.jobs.swap(ended, wanting)
    assert written is not None
    return written


async def test_what_is_wanted_is_made_beside_the_untouched_image(shop: Workshop) -> None:
    job = await asked(shop)
    before = await shop.kept()
    assert await rendering(shop).run(render_task(job.id)) == Nothing()
    image = (await shop.found(job)).images[0]
    assert [(one.name, one.status, one.width) for one in image.renditions] == [
        ("thumbnail", RenditionStatus.SUCCEEDED, 256),
        ("web", RenditionStatus.SUCCEEDED, 600),
    ]
    assert image.blurhash is not None
    assert (image.key, image.sha256) == (job.images[0].key, job.images[0].sha256)
    assert before.items() <= (await shop.kept()).items()


async def test_making_them_again_changes_nothing(shop: Workshop) -> None:
    job = await asked(shop)
    await rendering(shop).run(render_task(job.id))
    made = await shop.found(job)
    assert await rendering(shop).run(render_task(job.id)) == Nothing()
    assert await shop.found(job) == made


async def test_objects_that_are_away_are_asked_again(shop: Workshop) -> None:
    job = await asked(shop)
    shop.objects.away = 1
    assert isinstance(await rendering(shop).run(render_task(job.id)), Again)
    assert await rendering(shop).run(render_task(job.id)) == Nothing()
    assert len((await shop.found(job)).images[0].ready) == 2


async def test_an_image_that_is_gone_says_so(shop: Workshop) -> None:
    job = await asked(shop)
    await shop.objects.delete([job.images[0].key or ""])
    assert await rendering(shop).run(render_task(job.id)) == Nothing()
    image = (await shop.found(job)).images[0]
    assert {one.status for one in image.renditions} == {RenditionStatus.FAILED}
    assert image.asked(RECIPES).wanted == RECIPES


async def test_a_job_that_is_gone_asks_for_nothing(shop: Workshop) -> None:
    assert await rendering(shop).run(render_task("job_gone")) == Nothing()


async def test_a_change_on_the_way_is_not_lost(shop: Workshop) -> None:
    job = await asked(shop)
    seen = job

    class Sharing(Renditions):
        """Has somebody share the image while its renditions are made."""

        async def added(
            self, image: Image, data: bytes, recipes: Sequence[Recipe], *, label: bool
        ) -> Image:
            await shop.jobs.swap(seen, seen.with_image(replace(seen.images[0], share="s")))
            return await Renditions.added(self, image, data, recipes, label=label)

    sharing = Sharing(shop.objects, shop.imaging, patience=0.2)
    await Rendering(shop.jobs, shop.objects, sharing, label=True).run(render_task(job.id))
    image = (await shop.found(job)).images[0]
    assert (image.share, len(image.ready)) == ("s", 2)
