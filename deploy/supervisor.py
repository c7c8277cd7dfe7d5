"""Keeps the processes of one machine running, and stops them in order.

A worker or a Redis that dies must come back without hands, and nothing may be left behind when the
supervisor itself is killed. Standard library only: it is the one process that does no work, so it
should cost next to nothing.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass


REFUSED = os.EX_CONFIG  # how a program says that starting it again will not help
FIRST_PAUSE = 0.2  # seconds before a program that ended is started again; doubles each time
LONGEST_PAUSE = 10.0
CALM = 10.0  # seconds of life after which the pause starts small again

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to keep running: `patience` is the seconds between asking it to stop and killing it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    patience: float


class Keeper:
    """Keep one program running until it is told to stop or the program refuses to run.

    `pid` is None while the program is between two lives. `changed` is called at each new life.
    """

    def __init__(
        self, program: Program, *, changed: Callable[[], None], first_pause: float = FIRST_PAUSE
    ) -> None:
        self.program = program
        self.pid: int | None = None
        self._changed = changed
        self._first_pause = first_pause
        self._stopping = asyncio.Event()
        self._process: Process | None = None

    async def run(self) -> int:
        """Return the program's last exit code: `REFUSED`, or whatever it had when told to stop."""
        pause = self._first_pause
        while True:
            born = time.monotonic()
            code = await self._live()
            if code == REFUSED or self._stopping.is_set():
                return code
            if time.monotonic() - born >= CALM:
                pause = self._first_pause
            say(f"{self.program.name} ended ({_ending(code)}); starting it again in {pause:.1f} s")
            if await self._told_to_stop_within(pause):
                return code
            pause = min(pause * 2, LONGEST_PAUSE)

    async def stop(self) -> None:
        """Ask the program to end, and kill it when its patience is over."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.program.patience)
        except TimeoutError:
            say(f"{self.program.name} did not end within {self.program.patience:.0f} s; killing it")
            self.kill()

    def kill(self) -> None:
        """Kill the program and all that it started."""
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _live(self) -> int:
        """Run the program once, from its start to its exit code."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                env=self.program.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # standard output is for what the supervisor promises
                start_new_session=True,  # a Ctrl-C reaches the supervisor alone
                preexec_fn=die_with_parent(),
            )
        except OSError as error:
            say(f"{self.program.name} cannot be started: {error}")
            return REFUSED
        self._process, self.pid = process, process.pid
        if self._stopping.is_set():
            self.kill()
        self._changed()
        code = await process.wait()
        self._process, self.pid = None, None
        _kill_group(process.pid)  # what it had started itself
        return code

    async def _told_to_stop_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()


class Supervisor:
    """Keep a crew of programs, in the order in which they were added; stop them in another.

    `changed` is called when a program has a new pid. `end` resolves to the exit code that
    everything should end with: `REFUSED` as soon as a program refuses to run.
    """

    def __init__(self, *, changed: Callable[[], None]) -> None:
        self.end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._changed = changed
        self._kept: dict[Keeper, asyncio.Task[None]] = {}

    def keep(self, program: Program) -> None:
        """Start `program` now, and again whenever it ends."""
        keeper = Keeper(program, changed=self._changed)
        self._kept[keeper] = asyncio.create_task(self._guard(keeper))

    def pids(self, name: str) -> list[int]:
        """Return the pids of the running programs of that name."""
        return [k.pid for k in self._kept if k.program.name == name and k.pid is not None]

    def finish(self, code: int) -> None:
        """Let `end` be `code`, unless something came first."""
        if not self.end.done():
            self.end.set_result(code)

    async def stop(self, *order: str) -> None:
        """Stop the programs of each name together, one name after the other."""
        for name in order:
            keepers = [keeper for keeper in self._kept if keeper.program.name == name]
            await asyncio.gather(*(keeper.stop() for keeper in keepers))
            await asyncio.gather(*(self._kept[keeper] for keeper in keepers))

    def kill(self) -> None:
        """Kill everything now."""
        for keeper in self._kept:
            keeper.kill()

    async def _guard(self, keeper: Keeper) -> None:
        code = await keeper.run()
        if code == REFUSED:
            say(f"{keeper.program.name} refuses to start; the reason stands above")
            self.finish(REFUSED)


def say(line: str) -> None:
    """Tell whoever reads the log one thing."""
    print(f"darkroom: {line}", file=sys.stderr, flush=True)


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def die_with_parent() -> Callable[[], None]:
    """Return what a child does before it becomes its program: tie its life to this process's.

    Only Linux can; elsewhere a killed supervisor leaves its children behind.
    """
    parent = os.getpid()

    def tie() -> None:
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died between the fork and the line above
                os._exit(1)

    return tie


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
