"""Foreign URLs against canaries on loopback: whatever is tried, nobody may reach them.

127.0.0.1 stands for our own network and 127.0.0.2, opened by an allowance, for the public one; so a
refusal can only come from the judgement of the address.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from storage.address import Allowance
from tests.unit.storage.test_address import SPELLINGS
from tests.unit.worker.loopback import OK, Behaviour, Loopback, Names, answer, say
from worker.guard import Denied
from worker.web import Refused, TimedOut, TooBig, Unreachable, Web, WebError


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux gives all of 127.0.0.0/8 to loopback"
)

HIDDEN = "The address cannot be reached."
OUTSIDE = Allowance.parse("127.0.0.2")


@pytest.fixture
async def canary() -> AsyncIterator[Loopback]:
    async with Loopback(say(answer(b"secret"), then="go on")) as canary:
        yield canary


def guarded(canary: Loopback, **names: list[list[str]]) -> Web:
    """Return a Web that lacks nothing to reach *canary* but leave to talk to its address."""
    return Web(
        allow_http=True,
        ports=frozenset({80, 443, canary.port}),
        allowance=OUTSIDE,
        resolver=Names(**names),
    )


async def refused(web: Web, url: str) -> None:
    """Assert that neither door dials *url*."""
    with pytest.raises(Refused, match=HIDDEN) as caught:
        await web.fetch_foreign(url, limit=100, timeout=2)
    assert not caught.value.sent
    with pytest.raises(Refused, match=HIDDEN):
        await web.post_foreign(url, body=b"{}", headers={}, timeout=2)


async def test_the_canary_can_be_reached_when_its_address_is_allowed(canary: Loopback) -> None:
    async with Web(allowance=Allowance.parse("127.0.0.1")) as web:
        assert (await web.fetch_foreign(canary.url, limit=100, timeout=2)).body == b"secret"
        assert (await web.post_foreign(canary.url, body=b"", headers={})).body == b"secret"
        assert (await web.fetch_foreign(f"http://localhost:{canary.port}", limit=9, timeout=2)).body
    assert len(canary.requests) == 3


async def test_no_spelling_of_a_private_address_is_dialled(canary: Loopback) -> None:
    async with guarded(canary) as web:
        for host in SPELLINGS:
            await refused(web, f"http://{host}:{canary.port}/")
    assert canary.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["::ffff:7f00:1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%lo"],
        ["0.0.0.0"],
        ["169.254.169.254"],
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.2", "10.0.0.1"],
    ],
    ids=str,
)
async def test_a_name_is_as_private_as_the_worst_of_its_addresses(
    canary: Loopback, addresses: list[str]
) -> None:
    async with guarded(canary, bad_test=[addresses]) as web:
        for name in ("bad.test", "bad.test.", "BAD.test"):
            await refused(web, f"http://{name}:{canary.port}/")
    assert canary.connections == 0


async def test_a_foreign_socket_is_guarded_even_if_no_url_was_checked(canary: Loopback) -> None:
    async with guarded(canary, sly_test=[["127.0.0.1"]]) as web:
        for session in (web._foreign, web._opened):
            for host in ("127.0.0.1", "[::ffff:7f00:1]", "sly.test"):
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await session.get(f"http://{host}:{canary.port}/")
                assert isinstance(caught.value.os_error, Denied)
    assert canary.connections == 0


STATUSES = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]


def redirecting(*locations: str) -> Behaviour:
    """Redirect to each of *locations*, over and over, with each status."""
    turns = itertools.cycle(itertools.product(STATUSES, locations))

    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.request(reader)
            status, location = next(turns)
            writer.write(answer(status=status, headers=f"Location: {location}\r\n"))

    return behave


async def test_no_redirect_leads_inside(canary: Loopback) -> None:
    hosts = [host for host in SPELLINGS if host.isascii()]
    locations = [f"http://{host}:{canary.port}/" for host in hosts]
    locations += [
        canary.url.removeprefix("http:"),
        f"http://user@127.0.0.1:{canary.port}/",
        f"http://inside.test:{canary.port}/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "gopher://127.0.0.2/",
        "data:image/png;base64,AAAA",
        "http://127.0.0.2:0/",
        "http://[",
        "http://127.0.0.2\\@127.0.0.1/",
    ]
    tries = len(STATUSES) * len(locations)
    async with (
        Loopback(redirecting(*locations), host="127.0.0.2") as server,
        guarded(canary, inside_test=[["127.0.0.1"]]) as web,
    ):
        for _ in range(tries):
            with pytest.raises(Refused, match=HIDDEN):
                await web.fetch_foreign(server.url, limit=100, timeout=2)
        assert len(server.requests) == tries
    assert canary.connections == 0


async def test_a_name_that_turns_private_is_not_followed(canary: Loopback) -> None:
    names = {f"name{number}_test": [["127.0.0.2"], ["127.0.0.1"]] for number in range(500)}
    redirect = answer(status="302 Found", headers=f"Location: http://X:{canary.port}/\r\n")

    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            head, _ = await server.request(reader)
            host = head.partition("Host: ")[2].partition(":")[0]
            writer.write(redirect.replace(b"X", host.encode()))

    async with Loopback(behave, host="127.0.0.2") as server, guarded(canary, **names) as web:
        for number in range(500):
            url = f"http://name{number}.test:{server.port}/"
            with pytest.raises(Refused, match=HIDDEN):
                await web.fetch_foreign(url, limit=100, timeout=10)
            await refused(web, f"http://name{number}.test:{canary.port}/")
        assert len(server.requests) == 500
    assert canary.connections == 0


async def test_three_redirects_are_followed_and_no_fourth() -> None:
    def step(to: str) -> bytes:
        return answer(status="302 Found", headers=f"Location: {to}\r\n")

    replies = [step("/b?x=1"), step("c"), step("//127.0.0.2:PORT/d"), answer(b"end")]

    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.request(reader)
            reply = replies[(len(server.requests) - 1) % len(replies)]
            writer.write(reply.replace(b"PORT", str(server.port).encode()))

    async with Loopback(behave, host="127.0.0.2") as server, Web(allowance=OUTSIDE) as web:
        got = await web.fetch_foreign(f"{server.url}/a", limit=100, timeout=2)
        assert got.body == b"end"
        targets = [head.split()[1] for head, _ in server.requests]
        assert targets == ["/a", "/b?x=1", "/c", "/d"]
        replies[3] = step("/e")
        with pytest.raises(Refused):
            await web.fetch_foreign(f"{server.url}/a", limit=100, timeout=2)
        assert len(server.requests) == 8


async def test_a_fetch_takes_nothing_of_ours_along() -> None:
    reply = answer(status="302 Found", headers="Location: /b\r\nSet-Cookie: a=b\r\n")
    async with (
        Loopback(say(reply, answer()), host="127.0.0.2") as server,
        Web(allowance=OUTSIDE) as web,
    ):
        await web.fetch_foreign(f"{server.url}/a#part", limit=100, timeout=2)
    for head, body in server.requests:
        names = {line.partition(":")[0] for line in head.splitlines()[1:] if line}
        assert names == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
        assert body == b""


async def greet(
    server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read(100)


async def test_each_way_of_not_being_reached_reads_the_same(canary: Loopback) -> None:
    async with Loopback(say(), host="127.0.0.2") as gone:
        closed = gone.url
    said = set()
    async with (
        Loopback(greet, host="127.0.0.2") as other,
        Loopback(say(OK + b"Content-Length: 9\r\n\r\nabc"), host="127.0.0.2") as broken,
        guarded(canary) as web,
    ):
        for url in (
            canary.url,
            closed,
            other.url,
            broken.url,
            "http://no-such-name.invalid/",
            f"https://127.0.0.2:{other.port}/",
            "ftp://127.0.0.2/",
            "http://127.0.0.1:22/",
            "http://redis:6379/",
        ):
            with pytest.raises(Unreachable) as caught:
                await web.fetch_foreign(url, limit=100, timeout=2)
            said.add((str(caught.value), *caught.value.args))
    assert said == {(HIDDEN, HIDDEN)}


async def test_plain_http_goes_only_where_the_operator_opened() -> None:
    names = Names(inside_test=[["127.0.0.2"]], outside_test=[["8.8.8.8"]])
    async with (
        Loopback(say(answer(), then="go on"), host="127.0.0.2") as server,
        Web(allowance=OUTSIDE, resolver=names) as web,
    ):
        for url in (server.url, f"http://inside.test:{server.port}/"):
            assert (await web.post_foreign(url, body=b"{}", headers={})).status == 200
        with pytest.raises(Refused):
            await web.post_foreign("http://outside.test/", body=b"{}", headers={}, timeout=1)
        with pytest.raises(Refused):
            await web.post_foreign("http://8.8.8.8/", body=b"{}", headers={}, timeout=1)
    assert names.asked == 2


async def test_a_post_sends_the_exact_bytes_and_follows_nothing(canary: Loopback) -> None:
    reply = answer(b"moved", status="307 Temporary", headers=f"Location: {canary.url}\r\n")
    async with (
        Loopback(say(reply), host="127.0.0.2") as server,
        Web(allowance=Allowance.parse("127.0.0.0/8")) as web,
    ):
        got = await web.post_foreign(
            f"{server.url}/hook",
            body=b'{"a": 1}',
            headers={"Content-Type": "application/json", "webhook-id": "msg_1"},
        )
    assert (got.status, got.body) == (307, b"moved")
    ((head, body),) = server.requests
    assert body == b'{"a": 1}'
    assert "Content-Type: application/json\r\n" in head
    assert "webhook-id: msg_1\r\n" in head
    assert canary.connections == 0


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (answer(b"x" * 1_000_000), b"x" * 65_536),
        (OK + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 70_000, b"x" * 65_536),
        (OK + b"Content-Length: 9\r\n\r\nabc", b"abc"),
        (OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", b""),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc"),
    ],
    ids=range(6),
)
async def test_a_receiver_has_answered_once_its_status_is_known(reply: bytes, kept: bytes) -> None:
    async with Loopback(say(reply), host="127.0.0.2") as server, Web(allowance=OUTSIDE) as web:
        got = await web.post_foreign(server.url, body=b"{}", headers={}, timeout=2)
    assert got.status == 200
    assert got.body == kept


async def test_a_delivery_lost_by_a_kept_connection_is_not_sent_again() -> None:
    async with (
        Loopback(say(answer(), then="lose the next"), host="127.0.0.2") as server,
        Web(allowance=OUTSIDE) as web,
    ):
        await web.post_foreign(server.url, body=b"1", headers={})
        with pytest.raises(Unreachable, match=HIDDEN) as caught:
            await web.post_foreign(server.url, body=b"2", headers={})
    assert caught.value.sent
    assert [body for _, body in server.requests] == [b"1", b"2"]


async def test_a_fetch_over_its_limit_is_too_big() -> None:
    for reply in (answer(b"x" * 101), OK + b"\r\n" + b"x" * 101):
        async with Loopback(say(reply), host="127.0.0.2") as server, Web(allowance=OUTSIDE) as web:
            with pytest.raises(TooBig):
                await web.fetch_foreign(server.url, limit=100, timeout=2)


async def test_the_time_of_a_fetch_covers_all_its_hops() -> None:
    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.request(reader)
            await asyncio.sleep(0.15)
            writer.write(answer(status="302 Found", headers="Location: /next\r\n"))

    async with Loopback(behave, host="127.0.0.2") as server, Web(allowance=OUTSIDE) as web:
        with pytest.raises(TimedOut):
            await web.fetch_foreign(server.url, limit=100, timeout=0.4)
    assert len(server.requests) == 3


async def test_one_host_that_hangs_leaves_connections_for_the_others() -> None:
    async with (
        Loopback(say(b"", then="hang"), host="127.0.0.2") as hanging,
        Loopback(say(answer()), host="127.0.0.2") as healthy,
        Web(allowance=OUTSIDE, foreign_connections=20) as web,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(40):
            group.create_task(lost(web, hanging.url))
        await asyncio.sleep(0.1)
        assert hanging.connections == 16
        assert (await web.post_foreign(healthy.url, body=b"", headers={})).status == 200


async def lost(web: Web, url: str) -> None:
    with pytest.raises(WebError):
        await web.post_foreign(url, body=b"{}", headers={}, timeout=0.5)
