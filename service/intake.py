"""How images come in: in a form, as base64, as data URLs, or as URLs that a worker fetches.

Bytes of a client never wait in memory in any number: a part of a form goes to a spool file as it
comes, base64 is measured before it is decoded. What an image is, its content says, and never a
name or a header. Whatever was taken in lies in objects before the job exists, or is gone again.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import pybase64
import structlog

from service.settings import LimitSettings
from storage.address import Allowance, check_url
from storage.container import BadImage, Facts, Limits, inspect, measure
from storage.errors import Invalid, TooLarge, Unavailable
from storage.job import JobId
from storage.objects import Objects
from storage.request import Input


IN_MEMORY: Final = 1_048_576  # bytes of one file that are not worth a spool file
READ_WHOLE: Final = 8_388_608  # bytes of a spooled file that are read at once to be walked
HEAD: Final = 1_048_576
_INLINE: Final = 65_536  # bytes that are examined without a thread
_DATA_URL: Final = re.compile(
    r"data:image/[a-z0-9.+-]{1,40}(?:;[a-z]+=[a-z0-9-]{1,40})?;base64,", re.IGNORECASE
)
_EXTENSIONS: Final = {"jpeg": "jpg"}

log = structlog.get_logger()


@dataclass(slots=True)
class Given:
    """One image as it came in: a URL, or bytes in memory or in a spool file, measured."""

    input: Input
    content: bytes | Path | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return what tells this image from any other: its digest or its URL."""
        return self.input.sha256 or self.input.url or self.input.key or ""

    def discard(self) -> None:
        """Let go of the bytes, and of the spool file if there is one."""
        content, self.content = self.content, None
        if isinstance(content, Path):
            content.unlink(missing_ok=True)


class Spool:
    """One file on its way in: in memory while it is small, then in a file."""

    def __init__(self, folder: Path, limit: int, param: str) -> None:
        self._folder = folder
        self._limit = limit
        self._param = param
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    async def write(self, chunk: bytes) -> None:
        """Take one more piece.

        Raises `TooLarge` beyond the limit, and `Unavailable` when the disk does not take it.
        """
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(
                f"An image may have at most {self._limit} bytes.",
                param=self._param,
                code="image_too_large",
            )
        self._pending += chunk
        if len(self._pending) >= IN_MEMORY:
            await self._run(self._spill)

    async def end(self) -> tuple[bytes | Path, str]:
        """Return what came, whole, and its digest in hex."""
        if self._path is None:
            content = bytes(self._pending)
            if len(content) <= _INLINE:
                return content, hashlib.sha256(content).hexdigest()
            return content, await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
        await self._run(self._close)
        return self._path, self._digest.hexdigest()

    def discard(self) -> None:
        """Forget what came."""
        if self._file is not None:
            with suppress(OSError):  # a full disk does not take the rest of it
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _run(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            log.warning("spool_failed", reason=error.strerror)
            message = "Images cannot be taken in just now."
            raise Unavailable(message, code="spool_unavailable", retry_after=30.0) from error

    def _spill(self) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path = self._folder / secrets.token_hex(16)
            self._file = self._path.open("xb")
        self._digest.update(self._pending)
        self._file.write(self._pending)
        self._pending.clear()

    def _close(self) -> None:
        self._spill()
        if self._file is not None:
            self._file.close()


class Intake:
    """Takes images in and keeps them under the job that they are for."""

    def __init__(
        self, objects: Objects, folder: Path, limits: LimitSettings, allowance: Allowance
    ) -> None:
        self._objects = objects
        self._folder = folder
        self._limits = limits
        self._allowance = allowance
        self._image_limits = Limits(
            pixels=limits.pixels, side=limits.side, bytes=limits.image_bytes
        )

    def spool(self, param: str, *, limit: int | None = None) -> Spool:
        """Return a place for one file that comes in pieces, of `limit` bytes at most."""
        most = self._limits.image_bytes if limit is None else limit
        return Spool(self._folder, most, param)

    async def look(self, key: str, size: int, param: str) -> Facts:
        """Return what the head of a kept object shows; raises `Invalid` when it is no image."""
        head = b""
        stream = await self._objects.stream(key, end=HEAD)
        if stream is not None:
            async with aclosing(stream):
                head = b"".join([chunk async for chunk in stream])
        try:
            return measure(head, size, self._image_limits)
        except (BadImage, TooLarge) as error:
            raise type(error)(f"{error.message}.", param=param, code=error.code) from None

    async def received(self, spool: Spool, param: str) -> Given:
        """Return the file that was spooled as an image, or raise `Invalid` when it is none."""
        content, digest = await spool.end()
        return await self._examined(content, digest, param)

    async def received_lines(self, spool: Spool, param: str) -> Given:
        """Return the file that was spooled as lines that nobody has read yet."""
        content, digest = await spool.end()
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if not size:
            raise Invalid("The file is empty.", param=param, code="empty_file")
        known = Input(content_type="application/octet-stream", bytes=size, sha256=digest)
        return Given(known, content)

    async def read(self, text: str, param: str) -> Given:
        """Return the image that a URL, a data URL or base64 names."""
        head = text[:12].lower()
        if head.startswith("data:"):
            match = _DATA_URL.match(text, 0, 200)
            if match is None:
                raise Invalid(
                    "A data URL must read data:image/…;base64,…", param=param, code="invalid_image"
                )
            return await self._decoded(text[match.end() :], param)
        if "://" in head:
            url = check_url(text, param=param, allow_http=True, allowance=self._allowance)
            return Given(Input(url=str(url)))
        return await self._decoded(text, param)

    async def keep(self, job_id: JobId, tenant: str, all_given: Iterable[Given]) -> list[str]:
        """Move what was given to objects; return their keys, in order, none for URLs and files."""
        kept: list[str] = []
        for number, given in enumerate(all_given):
            if given.content is None:
                continue
            key = key_of(tenant, job_id, number, given)
            try:
                await self._objects.put(
                    key, given.content, content_type=given.input.content_type or ""
                )
            except BaseException:
                await self._objects.delete(kept)
                raise
            kept.append(key)
        return kept

    async def forget(self, keys: list[str]) -> None:
        """Remove what was kept for a job that is not to be."""
        if keys:
            await self._objects.delete(keys)

    async def _decoded(self, text: str, param: str) -> Given:
        if len(text) * 3 // 4 > self._limits.image_bytes + 3:
            raise TooLarge(
                f"An image may have at most {self._limits.image_bytes} bytes.",
                param=param,
                code="image_too_large",
            )
        try:
            data = pybase64.b64decode(text, validate=True)
        except ValueError:
            raise Invalid(
                "This is neither a URL nor valid base64.", param=param, code="invalid_base64"
            ) from None
        return await self._examined(data, None, param)

    async def _examined(self, content: bytes | Path, digest: str | None, param: str) -> Given:
        try:
            if isinstance(content, bytes) and len(content) <= _INLINE:
                facts, sha256 = _examine(content, digest, self._image_limits)
            else:
                facts, sha256 = await asyncio.to_thread(
                    _examine, content, digest, self._image_limits
                )
        except (BadImage, TooLarge) as error:
            if isinstance(content, Path):
                content.unlink(missing_ok=True)  # noqa: ASYNC240 — one file, of ours
            raise type(error)(f"{error.message}.", param=param, code=error.code) from None
        known = Input(
            content_type=facts.content_type,
            width=facts.width,
            height=facts.height,
            bytes=facts.bytes,
            sha256=sha256,
        )
        return Given(known, content)


def key_of(tenant: str, job_id: JobId, number: int, given: Given) -> str:
    """Return the key under which an input of a job is kept."""
    kind = (given.input.content_type or "").rpartition("/")[2]
    return f"t/{tenant}/{job_id}/in/{number}.{_EXTENSIONS.get(kind, kind)}"


def inputs_of(tenant: str, job_id: JobId, all_given: Iterable[Given]) -> tuple[Input, ...]:
    """Return the inputs of a job, under the keys that they will have."""
    return tuple(
        given.input
        if given.content is None
        else replace(given.input, key=key_of(tenant, job_id, number, given))
        for number, given in enumerate(all_given)
    )


def _examine(content: bytes | Path, digest: str | None, limits: Limits) -> tuple[Facts, str]:
    if isinstance(content, Path):
        return _examine_file(content, limits), digest or ""
    return inspect(content, limits), digest or hashlib.sha256(content).hexdigest()


def _examine_file(path: Path, limits: Limits) -> Facts:
    size = path.stat().st_size
    if size <= READ_WHOLE:
        return inspect(path.read_bytes(), limits)
    with path.open("rb") as file:
        return measure(file.read(HEAD), size, limits)
