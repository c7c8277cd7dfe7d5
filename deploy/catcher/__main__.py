"""`python -m deploy.catcher --port 8401 --url http://127.0.0.1:8400`, with the key in DARKROOM_KEY.

`deploy/up --catcher` starts it so. It listens on 127.0.0.1 and nowhere else.
"""

import argparse
import asyncio
import os
import signal
import sys

from aiohttp import web

from deploy.catcher.app import make_app
from deploy.catcher.keyholder import Keyholder


HOST = "127.0.0.1"


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.catcher", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to listen, on 127.0.0.1")
    parser.add_argument("--url", required=True, help="where Darkroom answers")
    asked = parser.parse_args()
    try:
        asyncio.run(_serve(asked.port, asked.url.rstrip("/"), os.environ.get("DARKROOM_KEY", "")))
    except OSError as error:
        print(f"The catcher cannot listen on port {asked.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


async def _serve(port: int, url: str, key: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        make_app(url, Keyholder(url, key)),
        access_log=None,
        auto_decompress=False,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
