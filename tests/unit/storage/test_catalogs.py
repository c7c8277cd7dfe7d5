"""The catalog in force and the file behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from storage.catalogs import Catalogs
from storage.errors import Invalid


EVERY = 0.02


def text(*names: str) -> str:
    rows = (f'[[deployments]]\nname = "{n}"\nmodel = "{n}"\nprovider = "sketch"\n' for n in names)
    return "\n".join(rows)


def write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def replace(path: Path, content: str) -> None:
    """Put another file in its place, as editors do."""
    write(path.parent / "new", content)
    (path.parent / "new").rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.toml"
    write(path, text("first"))
    return path


@asynccontextmanager
async def watched(catalogs: Catalogs) -> AsyncIterator[list[str]]:
    adopted: list[str] = []
    watch = asyncio.create_task(
        catalogs.watch(lambda: adopted.append(" ".join(catalogs.current.models)), every=EVERY)
    )
    await asyncio.sleep(0)
    try:
        yield adopted
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def until(adopted: list[str], count: int) -> None:
    async with asyncio.timeout(5):
        while len(adopted) < count:
            await asyncio.sleep(EVERY / 2)


def test_a_catalog_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"cannot be read\.$"):
        Catalogs.read(tmp_path / "none.toml")


async def test_a_changed_file_takes_its_place(path: Path) -> None:
    catalogs = Catalogs.read(path)
    async with watched(catalogs) as adopted:
        write(path, text("first", "second"))
        await until(adopted, 1)
    assert adopted == ["first second"]


async def test_a_file_that_is_replaced_takes_its_place(path: Path) -> None:
    catalogs = Catalogs.read(path)
    async with watched(catalogs) as adopted:
        replace(path, text("other"))
        await until(adopted, 1)
    assert list(catalogs.current.models) == ["other"]


async def test_a_wrong_file_leaves_the_old_catalog_in_force_and_is_complained_of_once(
    path: Path,
) -> None:
    catalogs = Catalogs.read(path)
    with capture_logs() as logs:
        async with watched(catalogs) as adopted:
            write(path, text("second") + '\n[[deployments]]\nname = "x"')
            await asyncio.sleep(10 * EVERY)
            assert list(catalogs.current.models) == ["first"]
            write(path, text("third"))
            await until(adopted, 1)
    assert list(catalogs.current.models) == ["third"]
    assert [entry["event"] for entry in logs] == ["catalog_refused", "catalog_adopted"]


async def test_a_file_that_goes_leaves_the_old_catalog_in_force(path: Path) -> None:
    catalogs = Catalogs.read(path)
    async with watched(catalogs) as adopted:
        remove(path)
        await asyncio.sleep(5 * EVERY)
        assert list(catalogs.current.models) == ["first"]
        write(path, text("back"))
        await until(adopted, 1)
    assert adopted == ["back"]


async def test_a_file_that_is_being_written_is_left_alone_until_it_rests(path: Path) -> None:
    catalogs = Catalogs.read(path)
    async with watched(catalogs) as adopted:
        for count in range(2, 12):
            write(path, text(*(f"m{n}" for n in range(count))))
            await asyncio.sleep(EVERY / 4)
        await until(adopted, 1)
        await asyncio.sleep(5 * EVERY)
    assert adopted[-1].split() == [f"m{n}" for n in range(11)]
    assert len(adopted) <= 3


async def test_who_asks_has_the_file_read_at_once(path: Path) -> None:
    catalogs = Catalogs.read(path)
    watch = asyncio.create_task(catalogs.watch(every=60))
    await asyncio.sleep(0)
    write(path, text("second"))
    catalogs.ask()
    async with asyncio.timeout(2):
        while "second" not in catalogs.current.models:
            await asyncio.sleep(0.005)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_a_catalog_without_a_file_stays_as_it_is(path: Path) -> None:
    catalogs = Catalogs(Catalogs.read(path).current)
    await catalogs.watch(every=EVERY)
    assert not catalogs.reload()
