"""The guard of foreign sockets by itself, without the checks that stand before it."""

import asyncio
import socket
import threading
import time

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from storage.address import Address, Allowance
from tests.unit.storage.test_address import ROWS
from tests.unit.worker.loopback import Loopback, Names, answer, say
from worker.guard import Denied, Lookup, guarded_socket


def permits(address: Address, port: int) -> bool:
    return Allowance().permits(address, port)


@pytest.mark.parametrize(("address", "public"), ROWS)
def test_a_socket_is_made_for_a_public_address_only(address: str, public: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    peer = (address, 443, 0, 0) if ":" in address else (address, 443)
    info = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", peer)
    if public:
        with guarded_socket(permits, info) as made:
            assert made.family == family
    else:
        with pytest.raises(Denied):
            guarded_socket(permits, info)


@pytest.mark.parametrize("host", ["fe80::1%1", "8.8.8.8%lo", "localhost", "127.1", ""])
def test_no_socket_is_made_for_what_is_not_an_address(host: str) -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, 443))
    with pytest.raises(Denied):
        guarded_socket(permits, info)


async def test_the_socket_alone_stops_a_literal_that_no_resolver_sees() -> None:
    def factory(info: aiohttp.AddrInfoType) -> socket.socket:
        return guarded_socket(permits, info)

    async with Loopback(say(answer(), then="go on")) as canary:
        connector = aiohttp.TCPConnector(socket_factory=factory)
        async with aiohttp.ClientSession(connector=connector) as session:
            for host in ("127.0.0.1", "[::ffff:7f00:1]", "①②⑦.⓪.⓪.①", "localhost"):
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await session.get(f"http://{host}:{canary.port}/")
                assert isinstance(caught.value.os_error, Denied)
        assert canary.connections == 0


async def test_a_name_resolves_if_each_of_its_addresses_is_permitted() -> None:
    names = Names(good_test=[["8.8.8.8", "2606:4700::1"]], bad_test=[["8.8.8.8", "10.0.0.1"]])
    lookup = Lookup(permits=permits, resolver=names)
    found = await lookup.resolve("good.test", 443)
    assert [result["host"] for result in found] == ["8.8.8.8", "2606:4700::1"]
    with pytest.raises(Denied):
        await lookup.resolve("bad.test", 443)
    with pytest.raises(Denied):
        await lookup.resolve("good.test", 22)
    assert len(await Lookup(resolver=names).resolve("bad.test", 22)) == 2


async def test_the_system_knows_localhost_and_its_threads_are_our_own() -> None:
    lookup = Lookup()
    found = await lookup.resolve("localhost", 80)
    assert {result["host"] for result in found} <= {"127.0.0.1", "::1"}
    assert {result["port"] for result in found} == {80}
    assert any(thread.name.startswith("lookup") for thread in threading.enumerate())
    await lookup.close()


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "a..b", "\udc80.test", "1.2.3.256"])
async def test_a_name_that_cannot_be_one_is_an_oserror(name: str) -> None:
    lookup = Lookup()
    with pytest.raises(OSError, match=r"\w"):
        await lookup.resolve(name, 80)
    await lookup.close()


async def test_a_slow_name_is_given_up() -> None:
    class Slow(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
            await asyncio.sleep(30)
            return []

        async def close(self) -> None:
            """Nothing is held."""

    start = time.monotonic()
    with pytest.raises(OSError, match="in time"):
        await Lookup(resolver=Slow(), seconds=0.05).resolve("slow.test", 80)
    assert time.monotonic() - start < 1
