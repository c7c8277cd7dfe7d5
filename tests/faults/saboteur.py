"""`python -m tests.faults.saboteur`: a worker whose own provider can be told to harm it.

The prompt says how: `[[kill]]` ends the process a moment later, as the kernel ends one that takes
too much memory, `[[stall:20]]` keeps the event loop from turning for so many seconds.
"""

import asyncio
import os
import re
import signal
import time

import uvloop

from storage import logs
from worker.main import serve
from worker.provider import Order, Progress, Reply
from worker.providers import PROVIDERS
from worker.providers.sketch import Sketch
from worker.settings import Settings


_STALL = re.compile(r"\[\[stall:(\d+)\]\]")


class Saboteur(Sketch):
    """Draws like any sketch, unless its prompt asks for harm."""

    async def generate(self, order: Order, progress: Progress) -> Reply:
        if "[[kill]]" in order.prompt:
            await asyncio.sleep(0.7)
            os.kill(os.getpid(), signal.SIGKILL)
        if (stall := _STALL.search(order.prompt)) is not None and order.attempt == 1:
            time.sleep(int(stall[1]))  # noqa: ASYNC251 — this is the harm
        return await super().generate(order, progress)


def main() -> None:
    """Work until SIGTERM."""
    logs.configure("worker", "info")
    providers = {**PROVIDERS, "sketch": Saboteur}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Settings(), os.environ, providers=providers))


if __name__ == "__main__":
    main()
