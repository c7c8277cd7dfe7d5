"""Objects in a folder: the common promises, and what only a disk can do."""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from multidict import MultiDict

from storage.errors import Forbidden, Invalid
from storage.local import LocalObjects
from storage.objects import ObjectsRefused, ObjectsUnavailable
from tests.suites.objects import BAD_KEYS, KEY, PNG, Fetched, ObjectsSuite, fetched


SECRET = b"a secret of thirty-two bytes ..."


class Route:
    """A service in small: it opens links and nothing else, by a clock that can be moved."""

    def __init__(self) -> None:
        self.objects: LocalObjects | None = None
        self.ahead = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        assert self.objects is not None
        now = time.time() + self.ahead
        try:
            opened = self.objects.open_link(request.match_info["key"], request.query, now=now)
        except Forbidden:
            return web.Response(status=403)
        data = await self.objects.get(opened.key, limit=1_000_000)
        if data is None:
            return web.Response(status=404)
        headers = {"Content-Type": opened.content_type, "Content-Disposition": opened.disposition}
        return web.Response(body=data, headers=headers)


class Outside:
    def __init__(self, session: ClientSession, route: Route) -> None:
        self._session = session
        self._route = route

    async def fetch(self, url: str) -> Fetched:
        return await fetched(self._session, url)

    async def later(self, seconds: float) -> None:
        self._route.ahead += seconds


@pytest.fixture
def route() -> Route:
    return Route()


@pytest.fixture
async def outside(route: Route) -> AsyncIterator[Outside]:
    async with ClientSession() as session:
        yield Outside(session, route)


@pytest.fixture
async def objects(route: Route, tmp_path: Path) -> AsyncIterator[LocalObjects]:
    app = web.Application()
    app.router.add_get("/objects/{key:.+}", route.answer)
    async with TestServer(app) as server:
        base_url = str(server.make_url("/"))
        route.objects = LocalObjects(tmp_path / "objects", secret=SECRET, base_url=base_url)
        yield route.objects
        await route.objects.close()


def files(tmp_path: Path) -> list[str]:
    root = tmp_path / "objects"
    return sorted(path.name for path in root.rglob("*") if path.is_file())


class TestLocalObjects(ObjectsSuite):
    """The promises, kept by a folder."""


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk that is full: for a while no file of this process may grow over 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_unavailable_and_leaves_the_old_object_alone(
    objects: LocalObjects, tmp_path: Path, small_files: None
) -> None:
    await objects.put(KEY, b"old", content_type=PNG)
    with pytest.raises(ObjectsUnavailable) as caught:
        await objects.put(KEY, b"x" * 100_000, content_type=PNG)
    assert caught.value.retry_after > 1
    assert await objects.get(KEY, limit=10) == b"old"
    assert len(files(tmp_path)) == 1


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A file on another file system than the objects."""
    memory = Path("/dev/shm")  # noqa: S108 — it is another disk, not a place to keep secrets
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system")
    file = memory / f"darkroom-test-{os.getpid()}"
    file.write_bytes(b"from afar")
    yield file
    file.unlink(missing_ok=True)


async def test_a_file_from_another_disk_is_copied_and_consumed(
    objects: LocalObjects, elsewhere: Path, tmp_path: Path
) -> None:
    await objects.put(KEY, elsewhere, content_type=PNG)
    assert await objects.get(KEY, limit=10) == b"from afar"
    assert len(files(tmp_path)) == 1
    assert not elsewhere.exists()  # noqa: ASYNC240 — it blocks nobody


async def test_a_file_that_is_not_there_is_refused(objects: LocalObjects, tmp_path: Path) -> None:
    with pytest.raises(ObjectsRefused):
        await objects.put(KEY, tmp_path / "nothing", content_type=PNG)
    assert await objects.stat(KEY) is None


async def test_a_key_below_an_object_is_refused(objects: LocalObjects) -> None:
    await objects.put("a/b", b"x", content_type=PNG)
    with pytest.raises(ObjectsRefused):
        await objects.put("a/b/c.png", b"x", content_type=PNG)
    with pytest.raises(ObjectsRefused):
        await objects.put("a", b"x", content_type=PNG)


async def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    objects = LocalObjects(tmp_path / "file" / "objects", secret=SECRET, base_url="http://h")
    with pytest.raises(ObjectsRefused):
        await objects.check()
    await objects.close()


async def test_a_job_makes_no_folder_of_its_own(objects: LocalObjects, tmp_path: Path) -> None:
    for number in range(600):
        await objects.put(f"t/acme/job_{number}/1/0.png", b"x", content_type=PNG)
    folders = [path for path in (tmp_path / "objects" / "t" / "acme").iterdir() if path.is_dir()]
    assert len(folders) <= 256
    assert all(not any(p.is_dir() for p in folder.iterdir()) for folder in folders)


async def test_a_folder_that_was_taken_away_is_made_again(
    objects: LocalObjects, tmp_path: Path
) -> None:
    await objects.put(KEY, b"x", content_type=PNG)
    shutil.rmtree(tmp_path / "objects" / KEY.split("/")[0])
    await objects.put(KEY, b"y", content_type=PNG)
    assert await objects.get(KEY, limit=1) == b"y"


async def test_a_key_too_long_for_a_disk_is_refused(objects: LocalObjects) -> None:
    with pytest.raises(Invalid):
        await objects.put(f"t/a/{'b' * 160}/{'c' * 160}.png", b"x", content_type=PNG)


async def test_check_sweeps_old_unfinished_writes_only(
    objects: LocalObjects, tmp_path: Path
) -> None:
    incoming = tmp_path / "objects" / ".incoming"
    incoming.mkdir(parents=True)
    for name, age in (("old", 7200), ("young", 60)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age, time.time() - age))
    await objects.check()
    assert [path.name for path in incoming.iterdir()] == ["young"]


async def test_an_unfinished_write_is_no_object(objects: LocalObjects, tmp_path: Path) -> None:
    incoming = tmp_path / "objects" / ".incoming"
    incoming.mkdir(parents=True)
    (incoming / "half").write_bytes(b"half")
    assert [key async for key, _ in objects.keys("")] == []


WRITING = """
import asyncio, sys
from pathlib import Path
from storage.local import LocalObjects

async def main():
    objects = LocalObjects(Path(sys.argv[1]), secret=b"x" * 16, base_url="")
    for turn in range(100_000):
        letter = b"ab"[turn % 2 : turn % 2 + 1]
        await objects.put("k.png", letter * 3_000_000, content_type="image/png")
        print(turn, flush=True)

asyncio.run(main())
"""


def test_a_process_killed_while_writing_leaves_whole_objects(tmp_path: Path) -> None:
    for turns in (1, 4, 9):
        command = [sys.executable, "-c", WRITING, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(turns):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        data = (tmp_path / "k.png").read_bytes()
        assert data in (b"a" * 3_000_000, b"b" * 3_000_000)


async def test_the_loop_turns_while_a_disk_is_waited_for(objects: LocalObjects) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    await objects.put(KEY, os.urandom(8_000_000), content_type=PNG)
    turning.cancel()
    assert turns > 10


def signing(secret: bytes = SECRET) -> LocalObjects:
    return LocalObjects(Path("/nowhere"), secret=secret, base_url="http://h/")


def query_of(objects: LocalObjects, *, now: float, lifetime: float) -> dict[str, str]:
    link = objects.link(KEY, content_type=PNG, filename="a b.png", lifetime=lifetime, now=now)
    assert link.url.startswith(f"http://h/objects/{KEY}?")
    assert link.expires_at == now + lifetime
    return dict(parse_qsl(urlsplit(link.url).query))


def test_a_link_opens_what_was_signed_until_its_second() -> None:
    objects = signing()
    query = query_of(objects, now=1000.0, lifetime=60.0)
    opened = objects.open_link(KEY, query, now=1059.9)
    assert opened == (KEY, PNG, 'attachment; filename="a b.png"')
    with pytest.raises(Forbidden):
        objects.open_link(KEY, query, now=1060.0)


def test_a_link_of_another_secret_opens_nothing() -> None:
    query = query_of(signing(b"another secret of Darkroom"), now=1000.0, lifetime=60.0)
    with pytest.raises(Forbidden):
        signing().open_link(KEY, query, now=1000.0)


def test_what_a_multidict_repeats_opens_nothing() -> None:
    objects = signing()
    query = MultiDict(query_of(objects, now=1000.0, lifetime=60.0))
    assert objects.open_link(KEY, query, now=1000.0).key == KEY
    query.add("type", "image/webp")
    with pytest.raises(Forbidden):
        objects.open_link(KEY, query, now=1000.0)


@pytest.mark.parametrize("signature", ["", "é", "\ud800", "A" * 43, "A" * 100_000, "\0"])
def test_any_other_signature_opens_nothing(signature: str) -> None:
    objects = signing()
    query = query_of(objects, now=1000.0, lifetime=60.0) | {"signature": signature}
    with pytest.raises(Forbidden):
        objects.open_link(KEY, query, now=1000.0)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_link_to_what_is_not_a_key_opens_nothing(key: str) -> None:
    objects = signing()
    query = query_of(objects, now=1000.0, lifetime=60.0)
    with pytest.raises(Forbidden):
        objects.open_link(key, query, now=1000.0)


def test_fields_cannot_be_shifted_between_their_places() -> None:
    """A line end in a name must not make the message of another link."""
    objects = signing()
    query = query_of(objects, now=1000.0, lifetime=60.0)
    shifted = query | {"type": f"{PNG}\n{query['name']}", "name": ""}
    with pytest.raises(Forbidden):
        objects.open_link(KEY, shifted, now=1000.0)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        signing(b"short")


def test_the_secret_is_in_no_link() -> None:
    link = signing().link(KEY, content_type=PNG, filename="a", lifetime=60, now=1000.0)
    assert SECRET.decode() not in link.url
