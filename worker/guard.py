"""Who may be at the other end of a foreign socket.

A URL can be judged as a string, but only the address that is dialled counts: a name may resolve to
our own network, and to another address the next time. So a name is judged by each address that it
resolves to, and each socket again when it is made, which also covers addresses written in a URL.
"""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from storage.address import Address, parse_address


Permits: TypeAlias = Callable[[Address, int], bool]

DNS_SECONDS: Final = 3.0
DNS_THREADS: Final = 16
NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Denied(OSError):
    """The address is not one that a stranger may make us talk to."""


def guarded_socket(permits: Permits, info: AddrInfoType) -> socket.socket:
    """Return a socket for *info*; raises `Denied` unless its address is permitted."""
    family, kind, proto, _, (host, port, *_) = info
    _judge(permits, host, port)
    return socket.socket(family, kind, proto)


def _judge(permits: Permits, host: str, port: int) -> None:
    address = parse_address(host)
    if address is None or not permits(address, port):
        raise Denied


class Lookup(AbstractResolver):
    """Names to addresses, in bounded time and in threads of its own.

    The system's resolver blocks a thread, and a slow name must only delay those of its own level
    of trust. A name has *seconds* to resolve, and with *permits* each of its addresses must be
    permitted.
    """

    def __init__(
        self,
        *,
        permits: Permits | None = None,
        resolver: AbstractResolver | None = None,
        seconds: float = DNS_SECONDS,
    ) -> None:
        self._permits = permits
        self._resolver = resolver
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of *host*; raises OSError, and `Denied` for one not permitted."""
        try:
            async with asyncio.timeout(self._seconds):
                results = await self._resolve(host, port, family)
        except TimeoutError:
            raise OSError("the name was not resolved in time") from None
        if self._permits is not None:
            for result in results:
                _judge(self._permits, result["host"], port)
        return results

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _resolve(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        if self._resolver is not None:
            return await self._resolver.resolve(host, port, family)
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._threads, _addresses, host, port, family)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=NUMERIC
            )
            for kind, address in answers
        ]


def _addresses(
    host: str, port: int, family: socket.AddressFamily
) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except UnicodeError:
        raise OSError("the name cannot be written in DNS") from None
    return [(kind, str(sockaddr[0])) for kind, _, _, _, sockaddr in found]
