"""The door to the network against real servers on loopback, most of them hostile."""

import asyncio
import gzip
import io
import ssl
import time
import traceback
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest

from storage.address import Allowance
from tests.unit.worker.loopback import OK, Behaviour, Loopback, Names, answer, say
from worker.sse import sse
from worker.web import TimedOut, TooBig, Unreachable, Web, WebError


LOOPBACK = Allowance.parse("127.0.0.1")
MIB = 1024 * 1024


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(allowance=LOOPBACK) as web:
        yield web


# Calls to a configured upstream


async def test_an_answer_comes_back_whatever_its_status(web: Web) -> None:
    reply = answer(b"slow down", status="429 Too Many", headers="Retry-After: 7\r\n")
    async with Loopback(say(reply)) as server:
        got = await web.call("POST", server.url, json={}, timeout=2)
    assert (got.status, got.body, got.headers["retry-after"]) == (429, b"slow down", "7")


async def test_a_call_sends_what_it_is_given_and_asks_for_plain_bytes(web: Web) -> None:
    async with Loopback(say(answer())) as server:
        await web.call(
            "POST",
            f"{server.url}/v1/images?a=1",
            json={"prompt": "Ä"},
            headers={"Authorization": "Bearer k"},
            params={"b": "2 3"},
            timeout=2,
        )
    (head, body) = server.requests[0]
    assert head.startswith("POST /v1/images?a=1&b=2+3 HTTP/1.1\r\n")
    assert orjson.loads(body) == {"prompt": "Ä"}
    lines = head.splitlines()
    for line in (
        "Accept-Encoding: identity",
        "Authorization: Bearer k",
        "Content-Type: application/json",
        "User-Agent: Darkroom",
    ):
        assert line in lines


async def test_a_large_body_arrives_whole_and_in_order(web: Web) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(MIB + 7))
    async with Loopback(say(answer(), answer())) as server:
        await web.call("POST", server.url, data=data, timeout=5)
        form = aiohttp.FormData()
        form.add_field("model", "m")
        form.add_field("image[]", io.BytesIO(data), filename="a.png", content_type="image/png")
        await web.call("POST", server.url, data=form, timeout=5)
    (_, body), (head, parts) = server.requests
    assert body == data
    assert data in parts
    assert "multipart/form-data" in head


async def test_a_large_answer_arrives_whole(web: Web) -> None:
    body = bytes(range(256)) * 4 * 3 * 1024
    async with Loopback(say(answer(body))) as server:
        assert (await web.call("GET", server.url, timeout=5)).body == body


async def test_connections_are_kept_and_cookies_are_not() -> None:
    reply = answer(headers="Set-Cookie: a=b; Path=/\r\n")
    names = Names(upstream_test=[["127.0.0.1"]])
    async with Loopback(say(reply, then="go on")) as server, Web(resolver=names) as web:
        for _ in range(3):
            await web.call("POST", f"http://upstream.test:{server.port}/", json={}, timeout=2)
    assert server.connections == 1
    assert not any("cookie" in head.lower() for head, _ in server.requests)


async def test_a_redirect_is_an_answer_to_a_call(web: Web) -> None:
    async with Loopback(say(answer())) as canary:
        reply = answer(status="307 Temporary", headers=f"Location: {canary.url}\r\n")
        async with Loopback(say(reply)) as server:
            got = await web.call("POST", server.url, json={}, timeout=2)
    assert got.status == 307
    assert canary.connections == 0


async def test_no_proxy_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(say(answer())) as canary, Loopback(say(answer())) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, canary.url)
        async with Web() as web:
            await web.call("GET", server.url, timeout=2)
    assert (server.connections, canary.connections) == (1, 0)


# What was sent


async def test_a_post_lost_by_a_kept_connection_is_not_sent_again(web: Web) -> None:
    async with Loopback(say(answer(), then="lose the next")) as server:
        await web.call("POST", server.url, json={"number": 1}, timeout=2)
        with pytest.raises(Unreachable) as caught:
            await web.call("POST", server.url, json={"number": 2}, timeout=2)
    assert caught.value.sent
    assert [orjson.loads(body)["number"] for _, body in server.requests] == [1, 2]
    assert server.connections == 1


async def test_a_get_lost_by_a_kept_connection_is_asked_once_more(web: Web) -> None:
    async with Loopback(say(answer(), then="lose the next")) as server:
        await web.call("GET", server.url, timeout=2)
        assert (await web.call("GET", server.url, timeout=2)).body == b"ok"
    assert len(server.requests) == 3
    assert server.connections == 2


async def test_a_get_that_finds_nobody_the_second_time_was_sent_the_first(web: Web) -> None:
    async def vanish(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        server.stop()
        writer.transport.abort()

    async with Loopback(vanish) as server:
        with pytest.raises(Unreachable) as caught:
            await web.call("GET", server.url, timeout=2)
    assert caught.value.sent
    assert len(server.requests) == 1


async def test_a_kept_connection_that_is_known_to_be_closed_is_not_used(web: Web) -> None:
    async with Loopback(say(answer())) as server:
        for _ in range(3):
            await web.call("POST", server.url, json={}, timeout=2)
            await asyncio.sleep(0.02)
    assert server.connections == 3


def reading(size: int, *, then: str) -> Behaviour:
    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = size
        while left > 0 and (chunk := await reader.read(min(left, MIB))):
            left -= len(chunk)
        if then == "hang":
            await asyncio.Event().wait()
        writer.transport.abort()

    return behave


@pytest.mark.parametrize("then", ["reset", "hang"])
@pytest.mark.parametrize(
    ("size", "read", "sent"),
    [
        (16 * MIB, 0, False),
        (16 * MIB, MIB, False),
        (16 * MIB, 16 * MIB, True),
        (2, 0, True),
        (0, 0, True),
    ],
)
async def test_a_request_is_sent_once_its_whole_body_may_have_arrived(
    web: Web, size: int, read: int, sent: bool, then: str
) -> None:
    async with Loopback(reading(read, then=then)) as server:
        with pytest.raises(WebError) as caught:
            await web.call("POST", server.url, data=b"x" * size, timeout=0.5)
    assert caught.value.sent is sent


async def test_a_call_that_finds_nobody_was_not_sent() -> None:
    async with Loopback(say()) as server:
        port = server.port
    async with Web(resolver=Names()) as web:
        for url in (f"http://127.0.0.1:{port}/", "http://unknown.test/", "http:///", "//", "a:b"):
            with pytest.raises(Unreachable) as caught:
                await web.call("POST", url, json={}, timeout=5)
            assert not caught.value.sent


async def test_a_call_that_waits_for_a_free_connection_was_not_sent() -> None:
    async with Loopback(say(then="hang")) as server, Web(connections=1) as web:
        first = asyncio.create_task(web.call("POST", server.url, json={}, timeout=0.4))
        await asyncio.sleep(0.05)
        with pytest.raises(TimedOut) as caught:
            await web.call("POST", server.url, json={}, timeout=0.1)
        assert not caught.value.sent
        with pytest.raises(TimedOut) as caught:
            await first
        assert caught.value.sent


# TLS


CERTIFICATES = Path(__file__).parent / "certificates"


def server_tls(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{name}.pem")
    return context


def client_tls(name: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATES / f"{name}.pem"))


async def test_a_trusted_certificate_is_answered() -> None:
    async with (
        Loopback(say(answer()), tls=server_tls("trusted")) as server,
        Web(ssl_context=client_tls("trusted"), allowance=LOOPBACK) as web,
    ):
        url = f"https://localhost:{server.port}/"
        assert (await web.call("POST", url, json={}, timeout=2)).body == b"ok"
        assert (await web.fetch_foreign(url, limit=10, timeout=2)).body == b"ok"
        assert (await web.post_foreign(url, body=b"{}", headers={})).body == b"ok"


@pytest.mark.parametrize(
    ("certificate", "authority"),
    [("trusted", None), ("elsewhere", "elsewhere"), ("expired", "expired"), (None, "trusted")],
)
async def test_nothing_is_said_after_a_handshake_that_failed(
    certificate: str | None, authority: str | None
) -> None:
    tls = server_tls(certificate) if certificate else None
    context = client_tls(authority) if authority else None
    heard = bytearray()

    async def listen(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await asyncio.wait_for(reader.read(MIB), 1):
            heard.extend(chunk)
            writer.write(answer())

    async with Loopback(listen, tls=tls) as server, Web(ssl_context=context) as web:
        with pytest.raises(Unreachable) as caught:
            await web.call(
                "POST", f"https://localhost:{server.port}/", json={"prompt": "secret"}, timeout=0.5
            )
    assert not caught.value.sent
    assert b"secret" not in heard
    assert b"POST" not in heard


# Hostile answers


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"hello",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        OK + b"Content-Length: 100\r\n\r\nabc",
        OK + b"Content-Length: 2\r\n\r\nabcdef",
        OK + b"Content-Length: -5\r\n\r\nabc",
        OK + b"Content-Length: 5\r\nContent-Length: 3\r\n\r\nabcde",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
        OK + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n",
        OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        OK + b"X: " + b"y" * 1_000_000,
        OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
        OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=str,
)
async def test_an_answer_that_is_not_whole_is_none(web: Web, reply: bytes) -> None:
    async with Loopback(say(reply)) as server:
        with pytest.raises(Unreachable) as caught:
            await web.call("POST", server.url, json={}, timeout=2)
    assert caught.value.sent


def dripping(head: bytes, drop: bytes) -> Behaviour:
    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(head)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.02)

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(say(b"", then="hang"), id="silence"),
        pytest.param(say(OK, then="hang"), id="half a head"),
        pytest.param(say(OK + b"Content-Length: 9\r\n\r\nabc", then="hang"), id="half a body"),
        pytest.param(say(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, then="hang"), id="continue"),
        pytest.param(dripping(OK + b"X: ", b"y"), id="header drip"),
        pytest.param(dripping(OK + b"Content-Length: 100000\r\n\r\n", b"y"), id="body drip"),
        pytest.param(dripping(OK + b"\r\n", b"y"), id="endless drip"),
        pytest.param(
            dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"), id="chunk drip"
        ),
    ],
)
async def test_the_total_time_ends_hangs_and_drips_alike(web: Web, behaviour: Behaviour) -> None:
    async with Loopback(behaviour) as server:
        start = time.monotonic()
        endings = await asyncio.gather(
            web.call("POST", server.url, json={}, timeout=0.3),
            web.fetch_foreign(server.url, limit=MIB, timeout=0.3),
            web.post_foreign(server.url, body=b"{}", headers={}, timeout=0.3),
            return_exceptions=True,
        )
        assert 0.25 < time.monotonic() - start < 1.3
    for ending in endings:
        assert isinstance(ending, TimedOut)
        assert ending.sent


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"hello",
        OK + b"Content-Length: 9\r\n\r\nabc",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        OK + b"Content-Length: 999\r\n\r\n",
    ],
    ids=str,
)
@pytest.mark.parametrize("then", ["close", "hang"])
async def test_no_error_quotes_the_url_or_what_was_said(web: Web, reply: bytes, then: str) -> None:
    async with Loopback(say(reply, then=then)) as server:
        url = f"http://user:pass@127.0.0.1:{server.port}/path?key=query"
        with pytest.raises(WebError) as caught:
            await web.call("POST", url, json={"p": "prompt"}, timeout=0.3, limit=100)
    error: BaseException | None = caught.value
    shown = ""
    while error:
        shown += f"{error} {error!r} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for secret in ("user", "pass", "path", "query", "prompt", "127.0.0.1", str(server.port)):
        assert secret not in shown


# Answers without end


def flooding(head: bytes, chunk: bytes, *, count: int) -> Behaviour:
    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(head)
        for _ in range(count):
            writer.write(chunk)
            await writer.drain()

    return behave


def packed_zeros(size: int) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    zeros = bytes(MIB)
    return b"".join(packer.compress(zeros) for _ in range(size // MIB)) + packer.flush()


BOMB = packed_zeros(256 * MIB)
GZIP = OK + b"Content-Encoding: gzip\r\n"


@pytest.mark.parametrize(
    ("behaviour", "limit"),
    [
        pytest.param(
            flooding(OK + b"\r\n", bytes(MIB), count=1500), 16 * MIB, id="until it closes"
        ),
        pytest.param(
            flooding(OK + b"Content-Length: 1572864000\r\n\r\n", bytes(MIB), count=1500),
            256 * MIB,
            id="with its length",
        ),
        pytest.param(
            flooding(
                OK + b"Transfer-Encoding: chunked\r\n\r\n",
                b"100000\r\n" + bytes(MIB) + b"\r\n",
                count=1500,
            ),
            16 * MIB,
            id="in chunks",
        ),
        pytest.param(
            say(GZIP + b"Content-Length: %d\r\n\r\n" % len(BOMB) + BOMB), 256 * MIB, id="inflated"
        ),
    ],
)
async def test_an_answer_without_end_costs_little_memory_and_keeps_nobody_waiting(
    web: Web, behaviour: Behaviour, limit: int
) -> None:
    process = psutil.Process()
    sizes = [process.memory_info().rss]
    stalls = [0.0]

    async def watch() -> None:
        while True:
            start = time.monotonic()
            await asyncio.sleep(0.005)
            stalls.append(time.monotonic() - start)
            sizes.append(process.memory_info().rss)

    async with Loopback(behaviour) as server:
        watcher = asyncio.create_task(watch())
        with pytest.raises(TooBig):
            await web.call("POST", server.url, json={}, timeout=10, limit=limit)
        await asyncio.sleep(0.01)
        watcher.cancel()
    assert max(sizes) - sizes[0] < 64 * MIB
    assert max(stalls) < 1


async def test_an_honest_answer_may_be_compressed(web: Web) -> None:
    body = orjson.dumps({"data": [{"b64_json": "QUJD" * 100_000}]})
    for name, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        reply = answer(packed, headers=f"Content-Encoding: {name}\r\n")
        async with Loopback(say(reply)) as server:
            assert (await web.call("POST", server.url, json={}, timeout=2)).body == body


# Streams


async def test_a_stream_gives_chunks_as_they_come(web: Web) -> None:
    told = asyncio.Event()

    async def behave(
        server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(OK + b"\r\nevent: partial\ndata: 1\n\n")
        await told.wait()
        writer.write(b"data: 2\n\n")

    async with Loopback(behave) as server:
        events = []
        async with web.stream("POST", server.url, json={}, timeout=2) as stream:
            assert stream.status == 200
            async for event in sse(stream):
                events.append(event)
                told.set()
    assert events == [("partial", b"1"), ("message", b"2")]


async def test_a_stream_that_is_left_early_leaves_no_connection_behind(web: Web) -> None:
    async with Loopback(say(OK + b"\r\nabc", then="hang")) as server:
        for _ in range(3):
            async with web.stream("POST", server.url, json={}, timeout=2) as stream:
                async for _chunk in stream:
                    break
        assert server.connections == 3
    async with Loopback(say(OK + b"\r\nabc", then="hang")) as server, Web(connections=1) as one:
        for _ in range(3):
            async with one.stream("POST", server.url, json={}, timeout=2) as stream:
                assert stream.status == 200


async def test_a_stream_fails_like_a_call(web: Web) -> None:
    for reply, error in (
        (OK + b"Content-Length: 9\r\n\r\nabc", Unreachable),
        (OK + b"Content-Length: 999\r\n\r\nabc", TooBig),
        (OK + b"\r\n" + b"x" * 101, TooBig),
    ):
        async with (
            Loopback(say(reply)) as server,
            web.stream("POST", server.url, json={}, timeout=2, limit=100) as stream,
        ):
            with pytest.raises(error):
                [chunk async for chunk in stream]


async def test_the_time_of_a_stream_runs_while_its_reader_works(web: Web) -> None:
    async with Loopback(say(answer())) as server:
        with pytest.raises(TimedOut) as caught:
            async with web.stream("POST", server.url, json={}, timeout=0.1):
                await asyncio.sleep(5)
    assert caught.value.sent


async def test_what_the_reader_of_a_stream_raises_stays_its_own(web: Web) -> None:
    for error in (TimeoutError("mine"), OSError("mine"), aiohttp.ClientError("mine")):
        async with Loopback(say(answer())) as server:
            with pytest.raises(type(error), match="mine"):
                async with web.stream("POST", server.url, json={}, timeout=2):
                    raise error


async def test_a_cancelled_call_stays_cancelled(web: Web) -> None:
    async with Loopback(say(b"", then="hang")) as server:
        task = asyncio.create_task(web.call("POST", server.url, json={}, timeout=5))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_failure_that_somebody_holds_does_not_hold_the_body(web: Web) -> None:
    async with Loopback(say(OK + b"\r\n" + b"x" * MIB)) as server:
        with pytest.raises(TooBig) as caught:
            await web.call("GET", server.url, timeout=5, limit=MIB // 2)
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(caught.tb)]
    assert [held["chunks"] for held in frames if "chunks" in held] == [[]]
