"""Claims about the small questions to this machine's network."""

import asyncio

import pytest

from deploy import probe


async def test_a_port_is_free_until_somebody_listens() -> None:
    port = probe.free_port("127.0.0.1")
    assert probe.is_free("127.0.0.1", port)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with server:
        assert not probe.is_free("127.0.0.1", port)


async def test_nothing_there_has_no_status() -> None:
    assert await probe.status(f"http://127.0.0.1:{probe.free_port('127.0.0.1')}", "/readyz") is None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 503),
        (b"SSH-2.0-OpenSSH\r\n", None),
        (b"", None),
    ],
)
async def test_a_status_is_what_the_first_line_says(answer: bytes, status: int | None) -> None:
    asked = b""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await probe.status(url, "/v1/models", key="dk_1") == status
    assert asked.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer dk_1\r\n" in asked


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.5", "10.0.0.5"), ("::1", "[::1]")],
)
def test_a_wildcard_is_reached_on_loopback(host: str, url: str) -> None:
    assert probe.within_url(probe.reachable(host)) == url


async def test_waiting_for_what_never_comes_is_bounded() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(TimeoutError):
        await probe.until(never, within=0.1)
