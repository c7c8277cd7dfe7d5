"""A load on loopback that costs little itself: raw HTTP/1.1 over kept connections, bounded."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """What came of a load: seconds it took, and the seconds of each answer by status."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)
    bytes: int = 0

    @property
    def answers(self) -> int:
        """Return how many answers came."""
        return sum(len(values) for values in self.latencies.values())

    @property
    def rate(self) -> float:
        """Return answers per second."""
        return self.answers / self.seconds


def post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return one POST as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def load(url: str, request: bytes, *, connections: int, requests: int) -> Load:
    """Send `requests` copies of a request over so many connections, each one at a time."""
    parts = urlsplit(url)
    seen = Load()
    left = iter(range(requests))
    begun = time.perf_counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**23)
        try:
            for _ in left:
                at = time.perf_counter()
                writer.write(request)
                status, size = await asyncio.wait_for(_answer(reader), 60)
                seen.latencies.setdefault(status, []).append(time.perf_counter() - at)
                seen.bytes += size
        finally:
            writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    seen.seconds = time.perf_counter() - begun
    return seen


async def _answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    if at >= 0:
        size = int(lowered[at + 15 : lowered.index(b"\r\n", at)])
        await reader.readexactly(size)
        return status, size
    size = 0
    while True:  # chunked
        length = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        await reader.readexactly(length + 2)
        size += length
        if length == 0:
            return status, size
