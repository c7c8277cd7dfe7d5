"""What is handed out of what came back: signed, labelled, converted; renditions stand beside it."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from storage.container import inspect
from storage.dialect import Capabilities
from storage.facts import Limits
from storage.failure import Failure
from storage.image import ImageStatus
from storage.provenance import Label
from storage.rendition import PRESETS, Recipe, RenditionStatus
from storage.request import Adaptation
from tests import images
from tests.doubles import Clock, FailingObjects
from tests.samples import a_job, a_request
from worker.imaging import Imaging
from worker.provider import Picture
from worker.results import Kept, Results


DATA = Path(images.__file__).parent / "data"


@pytest.fixture
def objects(tmp_path: Path) -> FailingObjects:
    return FailingObjects(tmp_path)


@pytest.fixture
async def imaging() -> AsyncIterator[Imaging]:
    imaging = Imaging(children=1)
    yield imaging
    await imaging.close()


@pytest.fixture
def results(objects: FailingObjects, imaging: Imaging, clock: Clock) -> Results:
    limits = Limits(formats=("png", "jpeg", "webp", "gif"), frames=1000)
    return Results(objects, imaging, limits=limits, patience=0.2, label=True, clock=clock)


def signed(kind: str) -> bytes:
    """Return a picture with something that looks like a C2PA manifest in the place for one."""
    plain = images.picture(kind)
    if kind == "png":
        return images.with_chunk(plain, b"caBX", b"\0\0\0\x10jumb")
    if kind == "jpeg":
        body = b"JP\0\1\0\0\0\1" + b"\0\0\1\0jumb\0\0\0\x26jumdc2pa"
        return images.with_segment(plain, 0xEB, body)
    return images.riff(plain[12:], images.riff_chunk(b"C2PA", b"\0\0\0\x10jumb"))


async def keep(
    results: Results, data: bytes, can: Capabilities | None = None, **asked: object
) -> Kept:
    job = a_job(request=a_request(**asked))
    return await results.keep(job, 0, 1, Picture(data=data), can)


async def read(objects: FailingObjects, key: str | None) -> bytes:
    data = await objects.get(key or "", limit=10_000_000)
    assert data is not None
    return data


# -- provenance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_a_signed_file_is_handed_out_byte_for_byte(
    results: Results, objects: FailingObjects, kind: str
) -> None:
    given = signed(kind) + b"what stands behind its end"
    image = (await keep(results, given)).image
    assert await read(objects, image.key) == given
    assert image.sha256 == hashlib.sha256(given).hexdigest()
    assert image.provenance is not None
    assert (image.provenance.c2pa, image.provenance.label) == (True, Label.NONE)


@pytest.mark.parametrize("name", ["signed.png", "signed.jpg", "signed.webp"])
async def test_a_file_that_c2pas_own_tools_signed_is_handed_out_byte_for_byte(
    results: Results, objects: FailingObjects, name: str
) -> None:
    """The files were signed by c2pa-python, whose reader calls them valid; see `tests/data`."""
    given = (DATA / name).read_bytes()
    kept = await keep(results, given)
    assert await read(objects, kept.image.key) == given
    assert kept.image.provenance is not None
    assert (kept.image.provenance.c2pa, kept.image.provenance.label) == (True, Label.NONE)


@pytest.mark.parametrize("name", ["signed.png", "signed.jpg", "signed.webp"])
async def test_what_is_made_of_a_signed_file_does_not_claim_its_signature(
    results: Results, objects: FailingObjects, name: str
) -> None:
    given = (DATA / name).read_bytes()
    asked = "webp" if name != "signed.webp" else "png"
    kept = await keep(results, given, output_format=asked)
    assert await read(objects, kept.image.key) == given
    (converted,) = kept.image.renditions
    made = await read(objects, converted.key)
    assert (inspect(given).c2pa, inspect(made).c2pa) == (True, False)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_an_unsigned_file_is_labelled_and_measured_as_it_is_kept(
    results: Results, objects: FailingObjects, clock: Clock, kind: str
) -> None:
    image = (await keep(results, images.picture(kind))).image
    kept = await read(objects, image.key)
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in kept
    assert (image.bytes, image.sha256) == (len(kept), hashlib.sha256(kept).hexdigest())
    assert image.provenance is not None
    assert image.provenance.label is Label.TRAINED_ALGORITHMIC_MEDIA
    assert image.provenance.created_at == clock()


async def test_nothing_is_written_where_the_job_or_the_settings_say_so(
    results: Results, objects: FailingObjects, imaging: Imaging
) -> None:
    plain = images.picture()
    image = (await keep(results, plain, provenance=False)).image
    assert await read(objects, image.key) == plain
    off = Results(objects, imaging, limits=Limits(), patience=0.2)
    image = (await keep(off, plain)).image
    assert await read(objects, image.key) == plain
    assert image.provenance is not None
    assert image.provenance.label is Label.NONE


async def test_what_an_upstream_claims_is_passed_on(results: Results) -> None:
    claimed = (await keep(results, images.picture(), Capabilities(synthid=True))).image
    silent = (await keep(results, images.picture(), Capabilities())).image
    assert claimed.provenance is not None
    assert silent.provenance is not None
    assert (claimed.provenance.synthid, silent.provenance.synthid) == (True, False)


# -- conversion ------------------------------------------------------------------------------------


async def test_a_conversion_keeps_what_was_delivered_beside_it(
    results: Results, objects: FailingObjects
) -> None:
    given = images.picture("png")
    kept = await keep(results, given, output_format="jpeg")
    assert (kept.image.content_type, kept.warnings) == ("image/jpeg", ())
    (original,) = kept.image.renditions
    assert (original.name, original.content_type) == ("original", "image/png")
    assert original.key == "t/acme/job_1/1/0.original.png"
    assert await read(objects, original.key) == given


async def test_a_signed_file_is_not_converted_but_a_conversion_stands_beside_it(
    results: Results, objects: FailingObjects
) -> None:
    given = signed("png")
    kept = await keep(results, given, output_format="webp")
    assert await read(objects, kept.image.key) == given
    (converted,) = kept.image.renditions
    assert (converted.name, converted.content_type) == ("converted", "image/webp")
    assert b"trainedAlgorithmicMedia" in await read(objects, converted.key)
    assert kept.warnings == (
        Adaptation(param="output_format", action="adapted", requested="webp", used="png"),
    )


# -- a mark to be seen -----------------------------------------------------------------------------


async def test_a_mark_is_drawn_where_the_upstream_makes_none(
    results: Results, objects: FailingObjects
) -> None:
    given = images.picture("png", size=(320, 240))
    kept = await keep(results, given, Capabilities(), watermark=True)
    before, after = images.decoded(given), images.decoded(await read(objects, kept.image.key))
    assert kept.warnings == ()
    assert before.crop((0, 0, 160, 240)).tobytes() == after.crop((0, 0, 160, 240)).tobytes()
    corner = (200, 200, 320, 240)
    assert before.crop(corner).tobytes() != after.crop(corner).tobytes()
    assert [one.name for one in kept.image.renditions] == ["original"]


async def test_an_upstreams_own_mark_is_enough(results: Results) -> None:
    kept = await keep(results, images.picture(), Capabilities(watermark=True), watermark=True)
    assert kept.image.renditions == ()


async def test_a_signed_file_is_not_marked_and_says_so(
    results: Results, objects: FailingObjects
) -> None:
    given = signed("jpeg")
    kept = await keep(results, given, Capabilities(), watermark=True)
    assert await read(objects, kept.image.key) == given
    assert [one.name for one in kept.image.renditions] == ["converted"]
    assert kept.warnings == (
        Adaptation(param="watermark", action="adapted", requested=True, used="converted"),
    )


# -- renditions ------------------------------------------------------------------------------------


async def test_renditions_are_measured_and_kept_beside_the_untouched_image(
    results: Results, objects: FailingObjects
) -> None:
    given = images.picture("png", size=(2000, 1000))
    recipes = (*PRESETS.values(), Recipe(name="small", width=100, format="jpeg", quality=50))
    image = (await keep(results, given, renditions=recipes, provenance=False)).image
    assert await read(objects, image.key) == given
    assert [(one.name, one.width, one.height) for one in image.ready] == [
        ("thumbnail", 256, 128),
        ("web", 1024, 512),
        ("small", 100, 50),
    ]
    for one in image.ready:
        kept = await read(objects, one.key)
        facts = inspect(kept)
        assert (facts.width, facts.content_type) == (one.width, one.content_type)
        assert (one.bytes, one.sha256) == (len(kept), hashlib.sha256(kept).hexdigest())
    assert [one.content_type for one in image.ready] == ["image/webp", "image/webp", "image/jpeg"]


async def test_renditions_carry_the_label_too(results: Results, objects: FailingObjects) -> None:
    image = (await keep(results, signed("png"), renditions=(PRESETS["thumbnail"],))).image
    assert b"trainedAlgorithmicMedia" in await read(objects, image.ready[0].key)


async def test_nothing_is_enlarged(results: Results) -> None:
    image = (await keep(results, images.picture(size=(64, 48)), renditions=(PRESETS["web"],))).image
    assert (image.ready[0].width, image.ready[0].height) == (64, 48)


async def test_the_looks_of_a_picture_are_told_in_short(results: Results) -> None:
    red = images.encoded(Image.new("RGB", (300, 200), (200, 20, 30)))
    image = (await keep(results, red, renditions=(PRESETS["thumbnail"],))).image
    assert image.dominant_color == "#c8141e"
    assert image.blurhash is not None
    assert len(image.blurhash) == 28


async def test_an_image_stands_when_its_renditions_cannot_be_made(
    results: Results, imaging: Imaging
) -> None:
    await imaging.close()
    kept = await keep(results, images.picture(), renditions=(PRESETS["web"],))
    assert kept.image.status is ImageStatus.SUCCEEDED
    (web,) = kept.image.renditions
    assert web.status is RenditionStatus.FAILED
    assert isinstance(web.error, Failure)


async def test_a_job_that_asks_for_nothing_touches_no_pixel(
    results: Results, objects: FailingObjects, imaging: Imaging
) -> None:
    await imaging.close()
    image = (await keep(results, images.picture())).image
    assert (image.status, image.renditions, objects.puts) == (ImageStatus.SUCCEEDED, (), 1)
