"""A crew: programs under the product's own supervisor, so that what is killed comes back."""

import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.supervisor import Program as Kept
from deploy.supervisor import Supervisor
from tests.processes import ROOT


# The supervisor's children write to its standard error; these have a file of their own.
_INTO_FILE = 'cd "$ROOT" && exec "$@" >>"$LOG" 2>&1'


class Crew:
    """Who is kept running, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._supervisor = Supervisor(changed=self._born)
        self._kept = 0
        self._lives = 0

    @property
    def deaths(self) -> int:
        """Return how often one of them was started again."""
        return max(self._lives - self._kept, 0)

    def add(self, name: str, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Keep one more program running."""
        log = self._folder / f"crew-{name}.log"
        wrapped = ("/bin/sh", "-c", _INTO_FILE, "sh", *command)
        every = {**environment, "LOG": str(log), "ROOT": str(ROOT)}
        self._kept += 1
        self._supervisor.keep(Kept(name=name, command=wrapped, environment=every, patience=10.0))

    def add_python(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        """Keep `python -m MODULE` running."""
        self.add(name, (sys.executable, "-m", module), environment)

    def pids(self, name: str) -> list[int]:
        """Return who runs under a name."""
        return self._supervisor.pids(name)

    def kill_one(self, name: str, chance: random.Random) -> int | None:
        """Kill one of a name, as a power cut would; None when none runs at this moment."""
        pids = self.pids(name)
        if not pids:
            return None
        pid = chance.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has just ended by itself
            return None
        return pid

    async def stop(self, *order: str) -> None:
        """End the names in this order."""
        await self._supervisor.stop(*order)

    def kill(self) -> None:
        """End everything now."""
        self._supervisor.kill()

    def _born(self) -> None:
        self._lives += 1


@asynccontextmanager
async def crewed(folder: Path, *order: str) -> AsyncIterator[Crew]:
    """Keep a crew while the context lasts; `order` names who is stopped first."""
    crew = Crew(folder)
    try:
        yield crew
        await crew.stop(*order)
    finally:
        crew.kill()
