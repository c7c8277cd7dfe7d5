"""What users take away, through real processes: labels, renditions and links."""

import asyncio
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.container import inspect
from tests.integration.walk import ended, submit
from tests.processes import installed
from tests.upstream.pictures import signed


async def read(client: aiohttp.ClientSession, url: str) -> bytes:
    async with client.get(url) as answer:
        assert answer.status == 200, url
        return await answer.read()


async def renditions(client: aiohttp.ClientSession, path: str, **asked: Any) -> list[Any]:
    """Ask for renditions and return all of the image once they are there."""
    async with client.post(f"{path}/renditions", json=asked) as answer:
        assert answer.status == 202, await answer.text()
    for _ in range(200):
        async with client.get(f"{path}/renditions") as answer:
            data: list[Any] = (await answer.json())["data"]
        if all(one["status"] != "pending" for one in data):
            return data
        await asyncio.sleep(0.05)
    raise AssertionError(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_every_image_is_labelled_measured_and_comes_in_the_sizes_that_were_asked(
    tmp_path: Path, kind: str
) -> None:
    async with installed(tmp_path) as here, here.client() as client:
        job_id = await submit(
            client,
            prompt="a lighthouse",
            size="640x480",
            output_format=kind,
            renditions=["thumbnail", {"name": "card", "width": 320, "format": "jpeg"}],
        )
        image = (await ended(client, job_id))["images"][0]
        data = await read(client, image["url"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (image["bytes"], image["sha256"])
        assert image["provenance"]["label"] == "trainedAlgorithmicMedia"
        assert (image["provenance"]["job"], image["provenance"]["c2pa"]) == (job_id, "absent")
        assert [one["name"] for one in image["renditions"]] == ["thumbnail", "card"]
        for one in image["renditions"]:
            made = await read(client, one["url"])
            facts = inspect(made)
            assert (facts.width, facts.height, len(made)) == (
                one["width"],
                one["height"],
                one["bytes"],
            )
        assert len(image["blurhash"]) == 28
        path = f"/v1/jobs/{job_id}/images/0"
        later = await renditions(client, path, renditions=["web"])
        assert {one["name"] for one in later} == {"thumbnail", "card", "web"}
        assert {one["status"] for one in later} == {"succeeded"}
        assert await read(client, f"{path}?proxy=1") == data
        _read_by_others(tmp_path / f"image.{kind}", data)


async def test_what_an_upstream_signed_comes_out_byte_for_byte(tmp_path: Path) -> None:
    async with installed(tmp_path) as here, here.client() as client:
        for kind in ("png", "jpeg", "webp"):
            job_id = await submit(
                client,
                model="gpt-image-2",
                prompt=f"a {kind} [[signed]]",
                output_format=kind,
                renditions=["thumbnail"],
            )
            image = (await ended(client, job_id))["images"][0]
            given = signed(kind)
            assert await read(client, image["url"]) == given
            assert await read(client, f"/v1/jobs/{job_id}/images/0?proxy=1") == given
            assert image["sha256"] == hashlib.sha256(given).hexdigest()
            assert image["provenance"]["c2pa"] == "signed"
            assert image["provenance"]["label"] == "none"
            (thumbnail,) = image["renditions"]
            assert not inspect(await read(client, thumbnail["url"])).c2pa


def _read_by_others(file: Path, data: bytes) -> None:
    """Have exiftool read the label, where the machine has it."""
    file.write_bytes(data)
    if shutil.which("exiftool") is None:
        return
    said = subprocess.run(
        ["exiftool", "-s3", "-n", "-XMP:DigitalSourceType", str(file)],
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert said.stdout.strip().endswith(b"digitalsourcetype/trainedAlgorithmicMedia")


async def test_a_share_link_opens_without_a_key_until_it_is_taken_back(tmp_path: Path) -> None:
    async with installed(tmp_path) as here, here.client() as client:
        job_id = await submit(client, prompt="a fox", size="64x64")
        await ended(client, job_id)
        path = f"/v1/jobs/{job_id}/images/0"
        async with client.post(f"{path}/share") as answer:
            url = (await answer.json())["url"]
        async with aiohttp.ClientSession() as anybody:
            assert inspect(await read(anybody, url)).width == 64
            async with client.delete(f"{path}/share") as answer:
                assert answer.status == 200
            async with anybody.get(url) as answer:
                assert answer.status == 404
        assert url.rpartition("/")[2] not in here.logs()
