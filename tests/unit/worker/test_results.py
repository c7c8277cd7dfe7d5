"""What an upstream sent, measured, converted and kept, or not."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.container import inspect
from storage.facts import Limits
from storage.failure import Failure, FailureCode
from storage.image import ImageStatus
from storage.job import Job
from tests import images
from tests.doubles import FailingObjects
from tests.samples import a_job, a_request
from worker.imaging import Imaging
from worker.provider import Picture
from worker.results import Kept, Results, folder_of, key_of


PNG = images.picture("png")
LIMITS = Limits(bytes=100_000, frames=10, formats=("png", "jpeg", "webp", "gif"))


@pytest.fixture
async def imaging() -> AsyncIterator[Imaging]:
    imaging = Imaging(children=1)
    yield imaging
    await imaging.close()


@pytest.fixture
def objects(tmp_path: Path) -> FailingObjects:
    return FailingObjects(tmp_path)


@pytest.fixture
def results(objects: FailingObjects, imaging: Imaging) -> Results:
    return Results(objects, imaging, limits=LIMITS, patience=5.0)


def asking(**fields: object) -> Job:
    return a_job(request=a_request(**fields))


def lost(kept: Kept) -> dict[str, tuple[object, object]]:
    return {one.param: (one.requested, one.used) for one in kept.warnings}


async def keep(results: Results, data: bytes, job: Job | None = None) -> Kept:
    return await results.keep(job or a_job(), 0, 1, Picture(data=data, revised_prompt="a tower"))


# -- measuring -------------------------------------------------------------------------------------


async def test_an_image_is_kept_as_it_came_with_what_it_measures(
    results: Results, objects: FailingObjects
) -> None:
    kept = await keep(results, PNG)
    image = kept.image
    assert (image.status, image.index, image.attempt) == (ImageStatus.SUCCEEDED, 0, 1)
    assert (image.content_type, image.width, image.height) == ("image/png", 64, 48)
    assert (image.bytes, image.sha256) == (len(PNG), hashlib.sha256(PNG).hexdigest())
    assert image.revised_prompt == "a tower"
    assert image.key is not None
    assert await objects.get(image.key, limit=10**6) == PNG
    assert kept.warnings == ()


@pytest.mark.parametrize(
    ("data", "content_type", "extension"),
    [
        (images.picture("png"), "image/png", "png"),
        (images.picture("jpeg"), "image/jpeg", "jpg"),
        (images.picture("webp"), "image/webp", "webp"),
        (images.picture("gif"), "image/gif", "gif"),
    ],
    ids=["png", "jpeg", "webp", "gif"],
)
async def test_the_type_is_what_the_bytes_are(
    results: Results, data: bytes, content_type: str, extension: str
) -> None:
    image = (await keep(results, data)).image
    assert (image.content_type, image.key) == (content_type, f"t/acme/job_1/1/0.{extension}")


def test_the_objects_of_a_job_lie_in_one_folder_apart_by_attempt() -> None:
    job = a_job()
    assert key_of(job, 2, 3, "image/png") == folder_of(job) + "3/2.png"
    assert folder_of(job) == "t/acme/job_1/"


async def test_what_hides_behind_the_end_of_an_image_is_not_kept(
    results: Results, objects: FailingObjects
) -> None:
    image = (await keep(results, PNG + b"<script>")).image
    assert image.key is not None
    assert await objects.get(image.key, limit=10**6) == PNG
    assert image.sha256 == hashlib.sha256(PNG).hexdigest()


# -- comparing -------------------------------------------------------------------------------------


async def test_another_size_than_asked_is_a_warning(results: Results) -> None:
    assert lost(await keep(results, PNG, asking(size="1024x1024"))) == {
        "size": ("1024x1024", "64x48")
    }
    assert lost(await keep(results, PNG, asking(size="64x48"))) == {}
    assert lost(await keep(results, PNG, asking(size="auto"))) == {}


async def test_an_opaque_image_where_a_transparent_one_was_asked_is_a_warning(
    results: Results,
) -> None:
    job = asking(background="transparent")
    assert lost(await keep(results, PNG, job)) == {"background": ("transparent", "opaque")}
    assert lost(await keep(results, images.picture("png", "RGBA"), job)) == {}


# -- converting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["jpeg", "webp"])
async def test_an_image_is_put_into_the_format_that_was_asked(
    results: Results, objects: FailingObjects, wanted: str
) -> None:
    kept = await keep(results, PNG, asking(output_format=wanted, output_compression=60))
    assert kept.image.content_type == f"image/{wanted}"
    assert kept.image.key is not None
    data = await objects.get(kept.image.key, limit=10**6)
    assert data is not None
    assert (inspect(data).format, len(data)) == (wanted, kept.image.bytes)
    assert kept.warnings == ()


async def test_an_image_in_the_format_that_was_asked_is_not_touched(results: Results) -> None:
    kept = await keep(results, PNG, asking(output_format="png"))
    assert kept.image.sha256 == hashlib.sha256(PNG).hexdigest()


async def test_an_image_that_could_not_be_converted_is_kept_as_it_came_and_says_so(
    objects: FailingObjects,
) -> None:
    closed = Imaging(children=1)
    await closed.close()
    results = Results(objects, closed, limits=LIMITS, patience=5.0)
    kept = await keep(results, PNG, asking(output_format="jpeg"))
    assert kept.image.sha256 == hashlib.sha256(PNG).hexdigest()
    assert lost(kept) == {"output_format": ("jpeg", "png")}


# -- what is no image ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><body>busy</body></html>",
        PNG[: len(PNG) // 2],
        PNG[:40] + b"\0" + PNG[41:],
        images.png_bomb(),
        images.heavy_png((256, 256)),
    ],
    ids=["nothing", "a page", "half", "damaged", "a bomb", "too large"],
)
async def test_what_is_no_usable_image_is_a_failure_and_is_not_kept(
    results: Results, objects: FailingObjects, data: bytes
) -> None:
    kept = await keep(results, data)
    assert kept.image.status is ImageStatus.FAILED
    assert kept.image.error is not None
    assert kept.image.error.code is FailureCode.UPSTREAM_ERROR
    assert kept.image.key is None
    assert objects.puts == 0


async def test_a_reason_in_place_of_an_image_stays_the_reason(results: Results) -> None:
    reason = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
    kept = await results.keep(a_job(), 3, 2, reason)
    assert (kept.image.index, kept.image.attempt) == (3, 2)
    assert (kept.image.status, kept.image.error) == (ImageStatus.FAILED, reason)


# -- keeping ---------------------------------------------------------------------------------------


async def test_an_image_waits_until_the_objects_are_back(
    results: Results, objects: FailingObjects
) -> None:
    objects.away = 2
    assert (await keep(results, PNG)).image.status is ImageStatus.SUCCEEDED
    assert objects.puts == 3


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "away for too long"])
async def test_an_image_that_cannot_be_kept_is_a_failure_of_ours(
    objects: FailingObjects, imaging: Imaging, refuses: bool
) -> None:
    objects.refuses, objects.away = refuses, 1000
    results = Results(objects, imaging, limits=LIMITS, patience=0.05)
    image = (await keep(results, PNG)).image
    assert image.error is not None
    assert image.error.code is FailureCode.STORAGE_ERROR
    assert "bucket" not in image.error.message
