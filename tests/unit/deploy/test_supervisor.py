"""Claims about keeping one program running."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.supervisor import REFUSED, Keeper, Program, Supervisor


class Diary:
    """What a program writes about its lives, one line each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    async def reaches(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.lines()) < count:
                await asyncio.sleep(0.01)
        return self.lines()


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


def program(diary: Diary, script: str, *, name: str = "worker", patience: float = 5) -> Program:
    return Program(
        name=name,
        command=("sh", "-c", script),
        environment={"DIARY": str(diary.path), "PATH": os.environ["PATH"]},
        patience=patience,
    )


def keeper(program: Program, *, first_pause: float = 0.01) -> Keeper:
    return Keeper(program, changed=lambda: None, first_pause=first_pause)


async def test_what_dies_is_started_again(diary: Diary) -> None:
    kept = keeper(program(diary, "echo born >> $DIARY; kill -9 $$"))
    running = asyncio.create_task(kept.run())
    await diary.reaches(3)
    await kept.stop()
    await asyncio.wait_for(running, 5)


async def test_the_pause_doubles_while_it_keeps_dying(diary: Diary) -> None:
    kept = keeper(program(diary, "date +%s.%N >> $DIARY; exit 1"), first_pause=0.2)
    running = asyncio.create_task(kept.run())
    times = [float(line) for line in await diary.reaches(4)]
    await kept.stop()
    await asyncio.wait_for(running, 5)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] >= 0.2
    assert pauses[1] >= 0.4
    assert pauses[2] >= 0.8


async def test_a_refusal_is_final(diary: Diary) -> None:
    kept = keeper(program(diary, f"echo born >> $DIARY; exit {REFUSED}"))
    assert await asyncio.wait_for(kept.run(), 5) == REFUSED
    assert diary.lines() == ["born"]


async def test_a_command_that_is_not_there_is_a_refusal(diary: Diary) -> None:
    absent = Program(name="redis", command=("/no/such",), environment={}, patience=1)
    assert await asyncio.wait_for(keeper(absent).run(), 5) == REFUSED


async def test_who_does_not_end_is_killed_when_its_patience_is_over(diary: Diary) -> None:
    stubborn = program(diary, "trap '' TERM; echo born >> $DIARY; sleep 60", patience=0.2)
    kept = keeper(stubborn)
    running = asyncio.create_task(kept.run())
    await diary.reaches(1)
    asked = time.monotonic()
    await kept.stop()
    assert await asyncio.wait_for(running, 5) == -signal.SIGKILL
    assert time.monotonic() - asked < 3


async def test_what_a_program_started_ends_with_it(diary: Diary) -> None:
    kept = keeper(program(diary, "sleep 60 & echo $! >> $DIARY; wait"))
    running = asyncio.create_task(kept.run())
    child = int((await diary.reaches(1))[0])
    await kept.stop()
    await asyncio.wait_for(running, 5)
    async with asyncio.timeout(5):
        while _alive(child):
            await asyncio.sleep(0.01)


async def test_a_stop_during_the_pause_starts_nothing_again(diary: Diary) -> None:
    kept = keeper(program(diary, "echo born >> $DIARY; exit 1"), first_pause=60)
    running = asyncio.create_task(kept.run())
    await diary.reaches(1)
    async with asyncio.timeout(5):
        while kept.pid is not None:
            await asyncio.sleep(0.01)
        await kept.stop()
        await running
    assert diary.lines() == ["born"]


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor(changed=lambda: None)
    yield made
    await made.stop("service", "worker")


async def test_one_refusal_ends_the_whole(supervisor: Supervisor, diary: Diary) -> None:
    supervisor.keep(program(diary, "sleep 60", name="service"))
    supervisor.keep(program(diary, f"exit {REFUSED}"))
    assert await asyncio.wait_for(supervisor.end, 5) == REFUSED


async def test_the_first_reason_to_end_stands(supervisor: Supervisor) -> None:
    supervisor.finish(0)
    supervisor.finish(1)
    assert await supervisor.end == 0


async def test_those_named_first_are_gone_before_the_next_are_asked(
    supervisor: Supervisor, diary: Diary
) -> None:
    polite = "trap 'sleep 0.2; echo {0} >> $DIARY; exit 0' TERM; echo up >> $DIARY; {1}"
    pause = "while :; do sleep 0.05; done"
    for name in ("worker", "worker", "service"):
        supervisor.keep(program(diary, polite.format(name, pause), name=name))
    await diary.reaches(3)
    await supervisor.stop("service", "worker")
    assert diary.lines()[3:] == ["service", "worker", "worker"]
    assert supervisor.pids("worker") == []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
