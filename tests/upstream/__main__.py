"""Run the fake by hand: `python -m tests.upstream --port 8100`."""

import argparse
import asyncio
import sys

import uvloop

from tests.upstream.dialects import DIALECTS
from tests.upstream.server import running


def main() -> None:
    """Serve until interrupted; the first line on stdout is the address."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    try:
        uvloop.run(_serve(arguments.host, arguments.port))
    except KeyboardInterrupt:
        sys.exit(0)


async def _serve(host: str, port: int) -> None:
    async with running(port, host) as upstream:
        sys.stdout.write(f"{upstream.url('')} {' '.join(DIALECTS)}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
