"""Small questions to the network of this machine: is a port free, does a server answer.

An HTTP client from the standard library would cost the supervisor as much memory as all the rest.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from urllib.parse import urlsplit


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there."""
    with suppress(OSError), _bound(host, port):
        return True
    return False


def free_port(host: str) -> int:
    """Return a port that nobody listens on, for a server that will keep it over its restarts."""
    with _bound(host, 0) as bound:
        port: int = bound.getsockname()[1]
        return port


def reachable(host: str) -> str:
    """Return where a server that listens on `host` is reached from this machine."""
    any_v4 = "0.0.0.0"  # noqa: S104 — compared, not bound  # nosec B104
    wildcards = {any_v4: "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    return wildcards.get(host, host)


def within_url(host: str) -> str:
    """Return `host` as a URL spells it."""
    return f"[{host}]" if ":" in host else host


async def status(url: str, path: str, *, key: str | None = None) -> int | None:
    """Return the HTTP status of a GET, or None when nothing answers within two seconds."""
    parts = urlsplit(url)
    lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            with closing(writer):
                writer.write("\r\n".join([*lines, "", ""]).encode())
                return int((await reader.readline()).split()[1])
    return None


async def until(true: Callable[[], Awaitable[bool]], *, within: float) -> None:
    """Ask again and again until the answer is yes; TimeoutError after so many seconds."""
    async with asyncio.timeout(within):
        while not await true():  # noqa: ASYNC110 — the other process has no event to wait for
            await asyncio.sleep(0.05)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket bound there, closed to those who dial; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As servers do: what is left of connections that ended is not in the way.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound
