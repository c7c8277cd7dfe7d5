"""The images that a job starts from, brought in and judged before anything is paid."""

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from storage.address import Allowance
from storage.container import inspect
from storage.errors import Unavailable
from storage.facts import Limits
from storage.failure import FailureCode
from storage.objects import ObjectsUnavailable
from storage.request import Input
from tests import images
from tests.doubles import FailingObjects
from tests.samples import a_request
from tests.unit.worker.loopback import Loopback, answer, say
from worker.imaging import Imaging
from worker.inputs import BadInput, Inputs
from worker.web import Web


PNG = images.picture("png", size=(32, 32))
KEY = "t/acme/job_1/in/0.png"
MASK = "t/acme/job_1/in/mask.png"
LIMITS = Limits(pixels=1_000_000, bytes=200_000)


@pytest.fixture
async def imaging() -> AsyncIterator[Imaging]:
    imaging = Imaging(children=1)
    yield imaging
    await imaging.close()


@pytest.fixture
def objects(tmp_path: Path) -> FailingObjects:
    return FailingObjects(tmp_path)


@pytest.fixture
async def inputs(objects: FailingObjects, imaging: Imaging) -> AsyncIterator[Inputs]:
    async with Web(allowance=Allowance.parse("127.0.0.0/8")) as web:
        yield Inputs(objects, web, imaging, limits=LIMITS, timeout=2.0)


async def kept(objects: FailingObjects, data: bytes, key: str = KEY) -> Input:
    await objects.put(key, data, content_type="image/png")
    return Input(key=key)


async def refused(inputs: Inputs, given: Input, mask: Input | None = None) -> BadInput:
    with pytest.raises(BadInput) as refusal:
        await inputs.of(a_request(images=(given,), mask=mask))
    return refusal.value


def turned() -> bytes:
    """Return a JPEG that is to be shown turned by a quarter."""
    picture = Image.new("RGB", (40, 20), "red")
    exif = picture.getexif()
    exif[0x0112] = 6
    out = BytesIO()
    picture.save(out, "jpeg", exif=exif)
    return out.getvalue()


# -- what is kept by us ----------------------------------------------------------------------------


async def test_a_kept_image_comes_with_its_bytes_and_what_they_measure(
    inputs: Inputs, objects: FailingObjects
) -> None:
    (source,), mask = await inputs.of(a_request(images=(await kept(objects, PNG),)))
    assert (source.data, source.content_type) == (PNG, "image/png")
    assert (source.width, source.height, source.filename) == (32, 32, "image-1.png")
    assert mask is None


async def test_the_order_of_the_images_is_kept(inputs: Inputs, objects: FailingObjects) -> None:
    datas = [images.picture("png", seed=seed) for seed in range(4)]
    given = [
        await kept(objects, data, f"t/acme/job_1/in/{at}.png") for at, data in enumerate(datas)
    ]
    sources, _ = await inputs.of(a_request(images=tuple(given)))
    assert [source.data for source in sources] == datas


async def test_an_image_that_is_turned_by_its_metadata_is_made_plain(
    inputs: Inputs, objects: FailingObjects
) -> None:
    (source,), _ = await inputs.of(a_request(images=(await kept(objects, turned()),)))
    assert (source.width, source.height) == (20, 40)
    assert not inspect(source.data).exif


async def test_an_image_that_is_gone_is_told_by_its_place(inputs: Inputs) -> None:
    failure = (await refused(inputs, Input(key=KEY))).failure
    assert failure.code is FailureCode.INVALID_IMAGE
    assert failure.message == "The image 1 is no longer there."


@pytest.mark.parametrize(
    "data",
    [b"no image", images.picture("gif"), images.png_bomb(), bytes(200_001)],
    ids=["text", "gif", "a bomb", "too large"],
)
async def test_what_is_no_image_for_us_is_refused(
    inputs: Inputs, objects: FailingObjects, data: bytes
) -> None:
    failure = (await refused(inputs, await kept(objects, data))).failure
    assert failure.code is FailureCode.INVALID_IMAGE


async def test_objects_that_refuse_are_our_failure_and_not_the_clients(
    inputs: Inputs, objects: FailingObjects
) -> None:
    objects.refuses = True
    failure = (await refused(inputs, Input(key=KEY))).failure
    assert failure.code is FailureCode.STORAGE_ERROR
    assert "bucket" not in failure.message


async def test_objects_that_are_away_are_no_reason_to_end_a_job(
    inputs: Inputs, objects: FailingObjects
) -> None:
    objects.away = 1
    with pytest.raises(ObjectsUnavailable):
        await inputs.of(a_request(images=(Input(key=KEY),)))


# -- what lies behind a URL ------------------------------------------------------------------------


async def test_an_image_behind_a_url_is_fetched(inputs: Inputs) -> None:
    async with Loopback(say(answer(PNG))) as server:
        given = Input(url=f"{server.url}/picture")
        (source,), _ = await inputs.of(a_request(images=(given,)))
    assert source.data == PNG


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"", status="404 Not Found"),
        answer(b"<html>", headers="Content-Type: image/png\r\n"),
        answer(bytes(200_001)),
        b"nonsense\r\n\r\n",
    ],
    ids=["missing", "a page", "too large", "no answer"],
)
async def test_a_url_that_gives_no_image_is_refused(inputs: Inputs, reply: bytes) -> None:
    async with Loopback(say(reply)) as server:
        failure = (await refused(inputs, Input(url=f"{server.url}/?token=secret"))).failure
    assert failure.code is FailureCode.INVALID_IMAGE
    assert "secret" not in failure.message


async def test_a_url_that_hangs_is_given_up(objects: FailingObjects, imaging: Imaging) -> None:
    async with (
        Web(allowance=Allowance.parse("127.0.0.0/8")) as web,
        Loopback(say(then="hang")) as server,
    ):
        inputs = Inputs(objects, web, imaging, limits=LIMITS, timeout=0.05)
        failure = (await refused(inputs, Input(url=server.url))).failure
    assert failure.code is FailureCode.INVALID_IMAGE


async def test_a_url_inside_the_house_is_not_fetched(
    objects: FailingObjects, imaging: Imaging
) -> None:
    async with Web() as web, Loopback(say(answer(PNG))) as server:
        inputs = Inputs(objects, web, imaging, limits=LIMITS, timeout=2.0)
        await refused(inputs, Input(url=server.url))
    assert server.connections == 0


# -- the mask --------------------------------------------------------------------------------------


async def test_a_mask_of_the_same_size_that_lets_something_change_is_taken(
    inputs: Inputs, objects: FailingObjects
) -> None:
    given = await kept(objects, PNG)
    mask = await kept(objects, images.mask((32, 32), (0, 0, 8, 8)), MASK)
    _, source = await inputs.of(a_request(images=(given,), mask=mask))
    assert source is not None
    assert (source.filename, source.width) == ("mask.png", 32)


@pytest.mark.parametrize(
    "data",
    [
        images.mask((16, 32), (0, 0, 8, 8)),
        images.mask((32, 32), (0, 0, 8, 8), mode="RGB"),
        images.mask((32, 32), (0, 0, 0, 0)),
    ],
    ids=["another size", "no alpha", "nothing to change"],
)
async def test_a_mask_that_cannot_be_used_is_refused(
    inputs: Inputs, objects: FailingObjects, data: bytes
) -> None:
    given, mask = await kept(objects, PNG), await kept(objects, data, MASK)
    failure = (await refused(inputs, given, mask)).failure
    assert failure.code is FailureCode.INVALID_IMAGE
    assert failure.message.startswith("The mask cannot be used")


async def test_without_a_hand_free_to_judge_a_mask_the_job_waits(
    objects: FailingObjects,
) -> None:
    closed = Imaging(children=1)
    await closed.close()
    given = await kept(objects, PNG)
    mask = await kept(objects, images.mask((32, 32), (0, 0, 8, 8)), MASK)
    async with Web() as web:
        inputs = Inputs(objects, web, closed, limits=LIMITS, timeout=2.0)
        with pytest.raises(Unavailable):
            await inputs.of(a_request(images=(given,), mask=mask))
