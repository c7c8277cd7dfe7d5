"""Files on their way in: bounded memory, a folder for each process, and none left by the dead."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.intake import IN_MEMORY, Spool
from service.spool import folder_below, held
from storage.errors import TooLarge, Unavailable


HOLDER = """
import os, sys, time
from pathlib import Path
from service.spool import held
with held(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "half").write_bytes(b"half a picture")
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.stdout.close()
    return process


async def test_a_small_file_stays_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "none", 100, "image")
    await spool.write(b"small")
    assert await spool.end() == (b"small", hashlib.sha256(b"small").hexdigest())
    assert not (tmp_path / "none").exists()


async def test_a_large_file_lies_on_disk_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10 * IN_MEMORY, "image")
    pieces = [bytes([number]) * 300_000 for number in range(10)]
    for piece in pieces:
        await spool.write(piece)
    path, digest = await spool.end()
    assert isinstance(path, Path)
    assert path.read_bytes() == b"".join(pieces)
    assert digest == hashlib.sha256(b"".join(pieces)).hexdigest()


async def test_a_file_over_its_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2 * IN_MEMORY, "image")
    await spool.write(b"x" * IN_MEMORY)
    await spool.write(b"x" * IN_MEMORY)
    with pytest.raises(TooLarge):
        await spool.write(b"x")
    spool.discard()
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 — a folder of this test


async def test_a_disk_that_takes_nothing_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    spool = Spool(tmp_path / "file" / "below", 10 * IN_MEMORY, "image")
    with pytest.raises(Unavailable) as refusal:
        await spool.write(b"x" * IN_MEMORY)
    assert refusal.value.code == "spool_unavailable"
    assert str(tmp_path) not in refusal.value.message


def test_the_folder_of_a_process_goes_with_it(tmp_path: Path) -> None:
    folder = folder_below(tmp_path)
    with held(folder):
        (folder / "half").write_bytes(b"half a picture")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_goes_with_the_next_that_starts(tmp_path: Path) -> None:
    dead, living = folder_below(tmp_path), folder_below(tmp_path)
    killed, other = holder(dead), holder(living)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert (dead / "half").exists()
        with held(folder_below(tmp_path)):
            assert not dead.exists()
            assert (living / "half").exists()
    finally:
        other.kill()
        other.wait(10)


def test_where_nothing_can_be_written_the_service_starts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    with held(folder_below(tmp_path / "file")):
        pass
