"""What every place where bytes are kept must show, whether it is a folder or a bucket.

A subclass gives the fixtures `objects` and `outside`: the place, and the world of whoever holds a
link. Time passes there in the way of the place: a clock that is moved, or waiting.
"""

import asyncio
import os
import time
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psutil
import pytest
from aiohttp import ClientSession
from yarl import URL

from storage.errors import Invalid, TooLarge
from storage.objects import CHUNK, Objects, Stat


PNG = "image/png"
KEY = "tenant_1/job_1/0.png"
BAD_KEYS = [
    "",
    "/etc/passwd",
    "../outside.png",
    "a/../b.png",
    "a/./b.png",
    "a//b.png",
    "a/",
    ".incoming/x",
    "a/.b.png",
    "a\0b.png",
    "a\n.png",
    "a.png\n",
    "a b.png",
    "a\\b.png",
    "a?b.png",
    "a%2e%2e/b.png",
    "ä.png",
    "\ud800.png",
    "x" * 161,
    "/".join(["x" * 100] * 8),
]
RANGES = [
    (0, None),
    (0, 1),
    (1, 5),
    (600_000, None),
    (999_999, 1_000_000),
    (999_999, 2_000_000),
    (1_000_000, None),
    (5_000_000, 5_000_001),
]
FILENAMES = {
    "job_1-0.png": 'attachment; filename="job_1-0.png"',
    'a"b;c.png': "attachment; filename=\"a_b_c.png\"; filename*=UTF-8''a%22b%3Bc.png",
    "ü☂.png": "attachment; filename=\"__.png\"; filename*=UTF-8''%C3%BC%E2%98%82.png",
    "../../etc/x.png": 'attachment; filename="_.._etc_x.png"',
    "a\r\nSet-Cookie: b.png": (
        "attachment; filename=\"a__Set-Cookie_ b.png\"; filename*=UTF-8''a__Set-Cookie%3A%20b.png"
    ),
    "\u202egnp.exe": 'attachment; filename="_gnp.exe"',
    "\ud800": 'attachment; filename="_"',
    "": 'attachment; filename="image"',
    "x" * 5000: f'attachment; filename="{"x" * 120}"',
}


class Fetched(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Outside(Protocol):
    """Where links are opened."""

    async def fetch(self, url: str) -> Fetched: ...

    async def later(self, seconds: float) -> None: ...


async def fetched(session: ClientSession, url: str) -> Fetched:
    """GET the URL to the letter, as a browser would."""
    async with session.get(URL(url, encoded=True)) as answer:
        return Fetched(answer.status, dict(answer.headers), await answer.read())


def asking(url: str, *query: tuple[str, str]) -> str:
    return urlsplit(url)._replace(query=urlencode(query, quote_via=quote, safe="")).geturl()


def other(value: str) -> str:
    return ("1" if value[0] != "1" else "2") + value[1:]


def tampered(url: str) -> dict[str, str]:
    """Every URL that says one thing less, more or other than this one."""
    said = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert asking(url, *said) == url
    forged = {
        "another key": url.replace("/0.png?", "/1.png?"),
        "a parameter added": asking(url, *said, ("response-cache-control", "x")),
    }
    for at, (name, value) in enumerate(said):
        before, after = said[:at], said[at + 1 :]
        longer = (name, str(int(value) + 3600) if value.isdigit() else value + "0")
        forged |= {
            f"{name} removed": asking(url, *before, *after),
            f"{name} changed": asking(url, *before, (name, other(value)), *after),
            f"{name} longer": asking(url, *before, longer, *after),
        }
    return forged


class ObjectsSuite:
    """The promises of `storage.objects.Objects`."""

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3_000_000])
    async def test_what_is_put_comes_back(self, objects: Objects, size: int) -> None:
        data = os.urandom(size)
        await objects.put(KEY, data, content_type=PNG)
        assert await objects.get(KEY, limit=size) == data
        assert await objects.stat(KEY) == Stat(size, PNG)

    @pytest.mark.parametrize("size", [0, 1, 3_000_000])
    async def test_a_file_is_consumed(self, objects: Objects, tmp_path: Path, size: int) -> None:
        data, file = os.urandom(size), tmp_path / "upload"
        file.write_bytes(data)
        await objects.put(KEY, file, content_type=PNG)
        assert await objects.get(KEY, limit=size) == data
        assert not file.exists()

    async def test_an_absent_object_is_none(self, objects: Objects) -> None:
        await objects.put("tenant_1/job_1/1.png", b"x", content_type=PNG)
        for key in (KEY, "tenant_1/job_1", "tenant_1/job_1/1.png/2.png", "nobody.png"):
            assert await objects.get(key, limit=10) is None
            assert await objects.stat(key) is None
            assert await objects.stream(key) is None

    async def test_a_put_replaces_what_was_there(self, objects: Objects) -> None:
        await objects.put(KEY, b"a longer first", content_type=PNG)
        await objects.put(KEY, b"second", content_type=PNG)
        assert await objects.get(KEY, limit=100) == b"second"

    async def test_a_reader_sees_the_old_or_the_new_and_never_a_mixture(
        self, objects: Objects
    ) -> None:
        versions = [bytes([letter]) * 700_000 for letter in b"ab"]
        await objects.put(KEY, versions[0], content_type=PNG)
        done = asyncio.Event()

        async def read() -> int:
            count = 0
            while not done.is_set():
                data = await objects.get(KEY, limit=700_000)
                assert data in versions
                count += 1
            return count

        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in range(3)]
            for turn in range(10):
                await objects.put(KEY, versions[turn % 2], content_type=PNG)
            done.set()
        assert all(reader.result() > 0 for reader in readers)

    async def test_concurrent_puts_each_keep_their_own(self, objects: Objects) -> None:
        kept = {f"tenant_1/job_{at}/0.png": os.urandom(10_000) for at in range(20)}
        async with asyncio.TaskGroup() as group:
            for key, data in kept.items():
                group.create_task(objects.put(key, data, content_type=PNG))
        for key, data in kept.items():
            assert await objects.get(key, limit=10_000) == data

    async def test_concurrent_puts_to_one_key_leave_one_of_them_whole(
        self, objects: Objects
    ) -> None:
        offers = [bytes([at]) * 300_000 for at in range(8)]
        async with asyncio.TaskGroup() as group:
            for data in offers:
                group.create_task(objects.put(KEY, data, content_type=PNG))
        assert await objects.get(KEY, limit=300_000) in offers

    async def test_an_object_over_the_limit_is_too_large(self, objects: Objects) -> None:
        await objects.put(KEY, b"x" * 1000, content_type=PNG)
        assert await objects.get(KEY, limit=1000) == b"x" * 1000
        with pytest.raises(TooLarge):
            await objects.get(KEY, limit=999)

    async def test_a_range_is_a_slice(self, objects: Objects) -> None:
        data = os.urandom(1_000_000)
        await objects.put(KEY, data, content_type=PNG)
        for start, end in RANGES:
            chunks = await objects.stream(KEY, start=start, end=end)
            assert chunks is not None
            got = [chunk async for chunk in chunks]
            assert b"".join(got) == data[start:end]
            assert all(0 < len(chunk) <= CHUNK for chunk in got)

    async def test_an_empty_object_is_streamed_as_nothing(self, objects: Objects) -> None:
        await objects.put(KEY, b"", content_type=PNG)
        for end in (None, 10):
            chunks = await objects.stream(KEY, end=end)
            assert chunks is not None
            assert [chunk async for chunk in chunks] == []

    async def test_a_range_of_nothing_is_invalid(self, objects: Objects) -> None:
        await objects.put(KEY, b"0123456789", content_type=PNG)
        for start, end in ((-1, None), (5, 5), (5, 4), (0, 0)):
            with pytest.raises(Invalid):
                await objects.stream(KEY, start=start, end=end)

    async def test_a_stream_may_be_left_in_the_middle(self, objects: Objects) -> None:
        data = os.urandom(2_000_000)
        await objects.put(KEY, data, content_type=PNG)
        for _ in range(10):
            chunks = await objects.stream(KEY)
            assert chunks is not None
            async with aclosing(chunks):
                assert data.startswith(await anext(chunks))
        assert await objects.get(KEY, limit=2_000_000) == data

    async def test_a_big_object_does_not_pass_through_memory_at_once(
        self, objects: Objects, tmp_path: Path
    ) -> None:
        size, room = 64 * 1024 * 1024, 24 * 1024 * 1024
        file, memory = tmp_path / "big", psutil.Process()
        with file.open("wb") as opened:
            opened.truncate(size)
        await objects.put("tenant_1/small.png", b"x", content_type=PNG)  # what starts, starts
        before = memory.memory_info().rss
        await objects.put(KEY, file, content_type=PNG)
        assert memory.memory_info().rss - before < room
        seen = 0
        chunks = await objects.stream(KEY)
        assert chunks is not None
        async for chunk in chunks:
            seen += len(chunk)
            assert memory.memory_info().rss - before < room
        assert seen == size

    async def test_keys_lists_what_starts_with_the_prefix(self, objects: Objects) -> None:
        started = time.time()
        kept = ["a/1/0.png", "a/1/1.png", "a/10/0.png", "a/2/0.png", "ab/0.png", "b.png"]
        for key in kept:
            await objects.put(key, b"x", content_type=PNG)
        for prefix in ("", "a", "a/", "a/1", "a/1/", "a/1/1", "a/1/1.png", "b", "c/", "b.png/"):
            found = {key: at async for key, at in objects.keys(prefix)}
            assert sorted(found) == [key for key in kept if key.startswith(prefix)]
            assert all(started - 2 <= at <= time.time() + 2 for at in found.values())

    async def test_a_prefix_that_no_key_has_is_invalid(self, objects: Objects) -> None:
        for prefix in ("/", "..", "../", "a//", "a/../", ".", "a\0"):
            with pytest.raises(Invalid):
                await anext(aiter(objects.keys(prefix)))

    async def test_delete_removes_many_and_does_not_mind_the_absent(self, objects: Objects) -> None:
        kept = [f"a/{at}/0.png" for at in range(5)]
        for key in kept:
            await objects.put(key, b"x", content_type=PNG)
        await objects.delete([*kept[:4], "a/9/0.png", "never.png"])
        assert [key async for key, _ in objects.keys("")] == kept[4:]
        await objects.delete([])
        await objects.delete(key for key in kept)
        assert [key async for key, _ in objects.keys("")] == []

    async def test_what_is_not_a_key_is_refused_at_every_door(self, objects: Objects) -> None:
        for key in BAD_KEYS:
            with pytest.raises(Invalid):
                await objects.put(key, b"x", content_type=PNG)
            with pytest.raises(Invalid):
                await objects.get(key, limit=1)
            with pytest.raises(Invalid):
                await objects.stream(key)
            with pytest.raises(Invalid):
                await objects.stat(key)
            with pytest.raises(Invalid):
                await objects.delete([key])
            with pytest.raises(Invalid):
                objects.link(key, content_type=PNG, filename="a", lifetime=60, now=time.time())

    async def test_a_type_that_a_browser_would_run_is_refused(self, objects: Objects) -> None:
        for bad in ("text/html", "image/svg+xml", "", "image/png\r\nA: b", "image/png; a=b"):
            with pytest.raises(Invalid):
                await objects.put(KEY, b"x", content_type=bad)
            with pytest.raises(Invalid):
                objects.link(KEY, content_type=bad, filename="a", lifetime=60, now=time.time())

    async def test_check_leaves_nothing_behind(self, objects: Objects) -> None:
        await objects.check()
        assert [key async for key, _ in objects.keys("")] == []

    async def test_a_link_opens_without_a_key_as_a_download(
        self, objects: Objects, outside: Outside
    ) -> None:
        await objects.put(KEY, b"picture", content_type=PNG)
        now = time.time()
        link = objects.link(
            KEY, content_type="image/webp", filename="job_1-0.webp", lifetime=60, now=now
        )
        assert now + 58 <= link.expires_at <= now + 60
        got = await outside.fetch(link.url)
        assert (got.status, got.body) == (200, b"picture")
        assert got.headers["Content-Type"] == "image/webp"
        assert got.headers["Content-Disposition"] == 'attachment; filename="job_1-0.webp"'

    async def test_a_filename_cannot_break_out_of_its_header(
        self, objects: Objects, outside: Outside
    ) -> None:
        await objects.put(KEY, b"picture", content_type=PNG)
        for name, header in FILENAMES.items():
            link = objects.link(KEY, content_type=PNG, filename=name, lifetime=60, now=time.time())
            got = await outside.fetch(link.url)
            assert (got.status, got.body) == (200, b"picture")
            assert got.headers["Content-Disposition"] == header
            assert "Set-Cookie" not in got.headers

    async def test_a_link_that_was_changed_anywhere_opens_nothing(
        self, objects: Objects, outside: Outside
    ) -> None:
        await objects.put(KEY, b"secret", content_type=PNG)
        await objects.put("tenant_1/job_1/1.png", b"secret", content_type=PNG)
        link = objects.link(KEY, content_type=PNG, filename="a.png", lifetime=60, now=time.time())
        forged = tampered(link.url)
        assert len(forged) >= 14
        for what, url in forged.items():
            assert url != link.url
            got = await outside.fetch(url)
            assert 400 <= got.status < 500, what
            assert b"secret" not in got.body, what
        assert (await outside.fetch(link.url)).body == b"secret"

    async def test_what_a_link_says_twice_is_refused_or_ignored(
        self, objects: Objects, outside: Outside
    ) -> None:
        await objects.put(KEY, b"picture", content_type=PNG)
        link = objects.link(KEY, content_type=PNG, filename="a.png", lifetime=60, now=time.time())
        signed = await outside.fetch(link.url)
        said = parse_qsl(urlsplit(link.url).query)
        for name, value in said:
            twice = (name, other(value))
            for url in (asking(link.url, twice, *said), asking(link.url, *said, twice)):
                got = await outside.fetch(url)
                if got.status != 200:
                    assert b"picture" not in got.body
                    continue
                for header in ("Content-Type", "Content-Disposition"):
                    assert got.headers[header] == signed.headers[header]

    async def test_a_link_ends_at_its_time(self, objects: Objects, outside: Outside) -> None:
        await objects.put(KEY, b"picture", content_type=PNG)
        link = objects.link(KEY, content_type=PNG, filename="a.png", lifetime=2, now=time.time())
        assert (await outside.fetch(link.url)).status == 200
        await outside.later(3.1)
        got = await outside.fetch(link.url)
        assert got.status == 403
        assert b"picture" not in got.body

    async def test_a_link_to_what_was_deleted_opens_nothing(
        self, objects: Objects, outside: Outside
    ) -> None:
        await objects.put(KEY, b"picture", content_type=PNG)
        link = objects.link(KEY, content_type=PNG, filename="a.png", lifetime=60, now=time.time())
        await objects.delete([KEY])
        assert (await outside.fetch(link.url)).status == 404

    async def test_a_link_lives_for_a_day_at_most(self, objects: Objects) -> None:
        for bad in (0, -1, 86_400.5, float("inf"), float("nan")):
            with pytest.raises(Invalid):
                objects.link(KEY, content_type=PNG, filename="a", lifetime=bad, now=time.time())
