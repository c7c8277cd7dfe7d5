"""A child process that can also be told to die, in every way that children do."""

import ctypes
import os
import resource
import signal
import sys
import time
from typing import Any

from worker.pixels.__main__ import CALLS, serve
from worker.pixels.frame import head


def kill_itself(number: int) -> None:
    os.kill(os.getpid(), number)


def crash() -> None:
    ctypes.string_at(0)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def spin() -> None:
    while True:
        pass


def hog() -> None:
    bytearray(1 << 40)


def raise_it() -> None:
    raise RuntimeError("the caller must not read this")


def leave() -> None:
    os._exit(3)


def echo(data: bytes) -> bytes:
    return data


def flood() -> bytes:
    """Answer with more than any parent should take."""
    os.write(0, b"\xff\xff\xff\xff" * 100)
    time.sleep(60)
    return b""


def babble() -> bytes:
    """Say more than was asked."""
    os.write(0, head({}, [b"asked"]) + b"asked")
    os.write(0, b"not asked")
    return b"more"


def tell() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "modules": sorted(name for name in sys.modules if name.split(".")[0] in HOUSE),
        "environment": sorted(os.environ),
        "files": sorted(os.listdir("/proc/self/fd")),  # noqa: PTH208 — the numbers, not the paths
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
        "sigterm_ignored": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
    }


HOUSE = {"worker", "storage", "service", "aiohttp", "asyncio", "pydantic", "redis", "arq", "boto3"}

if __name__ == "__main__":
    serve(
        {
            **CALLS,
            "kill_itself": kill_itself,
            "crash": crash,
            "sleep": sleep,
            "spin": spin,
            "hog": hog,
            "raise_it": raise_it,
            "leave": leave,
            "echo": echo,
            "flood": flood,
            "babble": babble,
            "tell": tell,
        }
    )
