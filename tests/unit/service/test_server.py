"""What a client hears that speaks broken HTTP, over a bare socket."""

import asyncio
import json

import pytest
from aiohttp import web

from service.server import make_runner
from tests.unit.service.conftest import Front


CANARY = "dk_live_canary"


async def say(front: Front, data: bytes, *, seconds: float = 2.0) -> bytes:
    """Send bytes and return what comes back until the other side closes or says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.client.port)
    writer.write(data)
    await writer.drain()
    heard = b""
    try:
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65536):
                heard += chunk
    except TimeoutError:
        pass
    writer.close()
    return heard


def head(front: Front, *lines: str, line: str = "POST /v1/jobs HTTP/1.1") -> bytes:
    fixed = ["Host: x", f"Authorization: Bearer {front.key}", "Content-Type: application/json"]
    return "\r\n".join([line, *fixed, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: 0x10"],
        ["Transfer-Encoding: xchunked"],
        [f"X-Key: {CANARY}\x00"],
        [f"X-{CANARY}\x01: y"],
        ["X: " + "y" * 20_000],
        *([[f"X-{i}: y" for i in range(300)]]),
    ],
    ids=range(9),
)
async def test_a_broken_request_gets_the_plain_error(front: Front, lines: list[str]) -> None:
    heard = await say(front, head(front, *lines, "Connection: close") + b"hello")
    status, _, rest = heard.partition(b"\r\n")
    assert b" 400 " in status
    assert CANARY.encode() not in heard
    assert b"aiohttp" not in heard
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert b"X-Request-Id" in headers
    assert json.loads(body)["error"]["message"] == "The request cannot be read."


async def test_a_length_over_the_limit_is_refused_before_the_body(front: Front) -> None:
    heard = await say(front, head(front, "Content-Length: 10000000000"), seconds=0.5)
    assert heard.startswith(b"HTTP/1.1 413")
    assert b"request_too_large" in heard


async def test_a_body_is_asked_for_only_when_its_length_passes(front: Front) -> None:
    large = ["Expect: 100-continue", "Content-Length: 10000000000"]
    assert b"100 Continue" not in await say(front, head(front, *large), seconds=0.3)
    small = ["Expect: 100-continue", "Content-Length: 14"]
    heard = await say(front, head(front, *small), seconds=0.3)
    assert heard.startswith(b"HTTP/1.1 100 Continue")


async def test_a_body_that_is_promised_and_never_sent_is_given_up(front: Front) -> None:
    heard = await say(front, head(front, "Content-Length: 100", "Connection: close"))
    assert heard.startswith(b"HTTP/1.1 408")


async def test_a_chunked_body_is_counted(front: Front) -> None:
    limit = front.context.settings.limits.request_bytes
    chunk = b"%x\r\n" % 1_000_000 + b" " * 1_000_000 + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", front.client.port)
    writer.write(head(front, "Transfer-Encoding: chunked"))
    for _ in range(limit // 1_000_000 + 2):
        writer.write(chunk)
        try:
            await writer.drain()
        except ConnectionError:
            break
    async with asyncio.timeout(10):
        line = await reader.readline()
    assert line.startswith(b"HTTP/1.1 413")
    writer.close()


async def test_pipelined_requests_are_all_answered(front: Front) -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    heard = await say(front, one * 50, seconds=1)
    assert heard.count(b"HTTP/1.1 200 OK") == 50


async def test_a_head_that_drips_is_given_up() -> None:
    runner = make_runner(web.Application(), keepalive=0.3)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")

    async def drip() -> None:
        while True:
            writer.write(b"y")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(3):
        assert await reader.read() == b""
    dripping.cancel()
    writer.close()
    await runner.cleanup()
