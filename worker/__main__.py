"""`python -m worker` serves the queues; `… check-catalog` says what is on and why."""

import asyncio
import os
import sys

import uvloop
from pydantic import ValidationError

from storage import logs, memory
from worker.assembly import Misconfigured
from worker.main import serve
from worker.settings import Settings


MISCONFIGURED = 78  # EX_CONFIG of sysexits.h: starting again would not help


def main(arguments: list[str]) -> int:
    """Run the worker, or one of its commands, and return the exit code."""
    if arguments[:1] == ["check-catalog"]:
        from worker.check_catalog import main as check_catalog  # noqa: PLC0415 — only here

        return check_catalog(arguments[1:])
    if arguments:
        sys.stderr.write("usage: python -m worker [check-catalog [--live]]\n")
        return 64
    try:
        settings = Settings()
        logs.configure("worker", settings.log_level)
        memory.keep_large_buffers()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, os.environ))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "DARKROOM_" + "__".join(str(part) for part in first["loc"]).upper()
        sys.stderr.write(f"{name}: {first['msg']}\n")
        return MISCONFIGURED
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
