"""One child process for pixels, seen from the parent: started, asked, killed.

The child inherits nothing but a socket and a few variables of the environment, in which no key is.
What it sends back is JSON and raw bytes of a bounded size: it has read hostile data, so it is not
believed more than an upstream is.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from storage.facts import BadImage
from worker.pixels.frame import HEAD, head, sizes


_ROOT: Final = Path(__file__).resolve().parent.parent
_INHERITED: Final = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
)
_MAX_META: Final = 65_536
_MAX_ANSWER: Final = 256_000_000


class Fault(StrEnum):
    """Why no answer came from a child."""

    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"
    BUSY = "busy"
    CLOSED = "closed"


_WORDS: Final = {
    Fault.TIMEOUT: "Working on the image took too long",
    Fault.MEMORY: "Working on the image took too much memory",
    Fault.CRASH: "Working on the image failed",
    Fault.BUSY: "Too many images are being worked on",
    Fault.CLOSED: "The worker is stopping",
}


class ImagingFailed(Exception):
    """No answer came; `reason` says why, `detail` names a signal or an error for the log."""

    def __init__(self, reason: Fault, detail: str | None = None) -> None:
        super().__init__(_WORDS[reason])
        self.message = _WORDS[reason]
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a child may take: bytes of address space, and seconds of CPU and of time for one call.

    `program` is the module that it runs.
    """

    memory: int = 1 << 30
    cpu: int = 10
    wall: float = 15.0
    program: str = "worker.pixels"


class Child:
    """A process that does one call at a time.

    After any error but `BadImage` nobody knows what it is doing, and it must be ended.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, sock: socket.socket, wall: float
    ) -> None:
        self._process = process
        self._sock = sock
        self._wall = wall
        self.calls = 0

    @classmethod
    async def start(cls, terms: Terms) -> Self:
        """Start a process; it is asked at once and answers when it is up, in about 0.2 s."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                terms.program,
                json.dumps(asdict(terms)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=_ROOT,
                env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            )
        except OSError as error:
            ours.close()
            raise ImagingFailed(Fault.CRASH, type(error).__name__) from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours, terms.wall)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Say whether the process still holds its end of the line, and keeps silent until asked."""
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def ask(
        self, call: str, params: Mapping[str, Any], blobs: Sequence[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Have `call` done and return what it says and the bytes it made.

        Raises `BadImage` in the child's words, or `ImagingFailed`.
        """
        self.calls += 1
        try:
            async with asyncio.timeout(self._wall):
                await self._send({"call": call, "params": dict(params)}, blobs)
                meta, answers = await self._receive()
        except TimeoutError:
            raise ImagingFailed(Fault.TIMEOUT, "wall") from None
        except (OSError, EOFError):
            raise await self._cause() from None
        match meta:
            case {"bad": str(message), "param": param}:
                raise BadImage(message, param=param)
            case {"fault": str(detail)}:
                reason = Fault.MEMORY if detail == "MemoryError" else Fault.CRASH
                raise ImagingFailed(reason, detail)
        return meta, answers

    def kill(self) -> None:
        """Kill the process; a call that waits for it fails."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def end(self) -> None:
        """Kill the process, which nobody may be asking, and wait until it is gone."""
        self._sock.close()
        self.kill()
        await self.gone()

    async def gone(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def _send(self, meta: dict[str, Any], blobs: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._sock, head(meta, blobs))
        for blob in blobs:
            await loop.sock_sendall(self._sock, blob)

    async def _receive(self) -> tuple[dict[str, Any], list[bytes]]:
        (length,) = HEAD.unpack(await self._read(HEAD.size))
        if length > _MAX_META:
            raise ImagingFailed(Fault.CRASH, "answer")
        meta = json.loads(await self._read(length))
        parts = sizes(meta)
        if sum(parts) > _MAX_ANSWER:
            raise ImagingFailed(Fault.CRASH, "answer")
        return meta, [await self._read(size) for size in parts]

    async def _read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray(size)
        with memoryview(data) as view:
            at = 0
            while at < size:
                got = await loop.sock_recv_into(self._sock, view[at:])
                if not got:
                    raise EOFError
                at += got
        return bytes(data)

    async def _cause(self) -> ImagingFailed:
        """Return why the child hung up, from how it ended."""
        try:
            async with asyncio.timeout(1.0):
                code = await self._process.wait()
        except TimeoutError:
            return ImagingFailed(Fault.CRASH, "silent")
        if code == -signal.SIGXCPU:
            return ImagingFailed(Fault.TIMEOUT, "cpu")
        return ImagingFailed(Fault.CRASH, str(code))
