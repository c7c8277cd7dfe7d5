"""Objects in a folder: no account, no server, links that Darkroom signs and serves by itself.

A process may die at any line, and the machine with it, so an object is written beside the others,
brought to the disk, and renamed into place: a reader sees the old bytes or the new, never half of
them. Waiting for a disk happens in a few threads, never on the event loop. Nothing is kept beside
the bytes: the type of an object is in its key's extension, and what a link may say is in the link.

Making a folder costs several waits for the disk, so a key makes none of its own: what comes after
its second segment is one file name, in one of 256 folders that stay.
"""

import asyncio
import base64
import errno
import hashlib
import hmac
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BufferedReader
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from storage.errors import Forbidden, Invalid, TooLarge
from storage.objects import (
    CHUNK,
    Link,
    ObjectsRefused,
    ObjectsUnavailable,
    Stat,
    Upload,
    checked_key,
    checked_lifetime,
    checked_prefix,
    checked_range,
    checked_type,
    clean_filename,
    disposition,
)


T = TypeVar("T")

PATIENCE: Final = 60.0  # seconds for one operation
THREADS: Final = 8
PAGE: Final = 500  # keys that one trip to a thread brings back
STALE: Final = 3600.0  # seconds after which an unfinished write belongs to nobody
INCOMING: Final = ".incoming"  # no key starts with a dot
MIN_SECRET: Final = 16  # bytes
LARGEST_AT_ONCE: Final = 8 * 1024 * 1024  # bytes that are copied on the event loop
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
MAX_NAME: Final = 255  # bytes of a file name
HEAD: Final = 2  # segments of a key that are folders by their own name
JOINT: Final = "~"  # between the others; no key holds one

TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".json": "application/json",
}
ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
REFUSED: Final = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
    }
)
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Opened(NamedTuple):
    """What a good link opens: the object, and the headers that were signed with it."""

    key: str
    content_type: str
    disposition: str


class Announced(NamedTuple):
    """What a good upload link takes: the object, its type and its size in bytes."""

    key: str
    content_type: str
    size: int


class LocalObjects:
    """Objects as files under `path`; links start with `base_url` and are signed with `secret`."""

    def __init__(self, path: Path, *, secret: bytes, base_url: str, fsync: bool = True) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError("the secret of links needs at least 16 bytes")
        self._path = path.absolute()
        # A key of its own: what signs links must not sign anything else.
        self._secret = hmac.digest(secret, b"darkroom link 1", hashlib.sha256)
        self._base_url = base_url.rstrip("/")
        self._fsync = fsync
        self._made: set[Path] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="objects")

    async def put(self, key: str, data: bytes | Path, *, content_type: str) -> None:
        checked_type(content_type)
        target = self.file(key)
        if isinstance(data, Path):
            await self._run(partial(self._keep_file, data, target))
        else:
            await self._run(partial(self._keep, partial(_write, data), target))

    async def get(self, key: str, *, limit: int) -> bytes | None:
        file = self.file(key)
        # What was kept a moment ago is still in memory; reading that needs no thread.
        if (data := _in_memory(file, limit)) is None:
            return await self._run(partial(_read, file, limit))
        await asyncio.sleep(0)  # whoever reads one after the other lets others have their turn
        return data

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None] | None:
        checked_range(start, end)
        file = await self._run(partial(_open, self.file(key), start))
        return None if file is None else self._chunks(file, None if end is None else end - start)

    async def stat(self, key: str) -> Stat | None:
        size = await self._run(partial(_size, self.file(key)))
        return None if size is None else Stat(size, _type(key))

    async def delete(self, keys: Iterable[str]) -> None:
        files = [self.file(key) for key in keys]
        for at in range(0, len(files), PAGE):
            await self._run(partial(self._remove, files[at : at + PAGE]))

    def link(
        self, key: str, *, content_type: str, filename: str, lifetime: float, now: float
    ) -> Link:
        expires = int(now + checked_lifetime(lifetime))
        said = {
            "type": checked_type(content_type),
            "name": clean_filename(filename),
            "expires": str(expires),
        }
        said["signature"] = self._signature(checked_key(key), said)
        query = urlencode(said, quote_via=quote, safe="")
        return Link(f"{self._base_url}/objects/{key}?{query}", float(expires))

    def open_link(self, key: str, query: Mapping[str, str], *, now: float) -> Opened:
        """Return what the link to `key` with this decoded query opens, or raise `Forbidden`.

        Nothing may be missing, added, repeated or changed, and its time must not be over. The
        object itself may be gone.
        """
        said = self._said(key, query, {"type", "name", "expires"}, now)
        return Opened(checked_key(key), said["type"], disposition(said["name"]))

    def upload_link(
        self, key: str, *, content_type: str, size: int, lifetime: float, now: float
    ) -> Upload:
        expires = int(now + checked_lifetime(lifetime))
        said = {"type": checked_type(content_type), "size": str(size), "expires": str(expires)}
        said["signature"] = self._signature(f"put {checked_key(key)}", said)
        query = urlencode(said, quote_via=quote, safe="")
        url = f"{self._base_url}/uploads/{key}?{query}"
        return Upload(url, {"Content-Type": content_type}, float(expires))

    def open_upload(self, key: str, query: Mapping[str, str], *, now: float) -> Announced:
        """Return what may be put to `key` by the link with this decoded query, or `Forbidden`."""
        said = self._said(f"put {key}", query, {"type", "size", "expires"}, now)
        return Announced(checked_key(key), said["type"], int(said["size"]))

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, float]]:
        found = _walk(self._path, checked_prefix(prefix))
        while page := await self._run(lambda: list(islice(found, PAGE))):
            for entry in page:
                yield entry

    async def check(self) -> None:
        key, probe = f"_check/{secrets.token_hex(16)}.json", b"{}"
        await self.put(key, probe, content_type="application/json")
        if await self.get(key, limit=len(probe)) != probe:
            raise ObjectsRefused("The folder of objects does not give back what it was given.")
        await self.delete([key])
        await self._run(partial(_sweep, self._path / INCOMING, time.time() - STALE))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def file(self, key: str) -> Path:
        """Return where the bytes of `key` are, whether there are any or not."""
        *head, last = checked_key(key).split("/", HEAD)
        if len(head) < HEAD:
            return self._path.joinpath(*head, last)
        name = last.replace("/", JOINT)
        if len(name) > MAX_NAME:
            raise Invalid("This key is too long for a disk.")
        return self._path.joinpath(*head, _shard(last), name)

    def _said(
        self, key: str, query: Mapping[str, str], names: set[str], now: float
    ) -> dict[str, str]:
        """Return what a good link says, which is `names` and nothing else, or raise `Forbidden`."""
        said = dict(query)
        signature = said.pop("signature", "")
        # A multidict counts what is repeated, and the copy does not.
        if len(query) != len(names) + 1 or said.keys() != names:
            raise Forbidden("This link is not valid.")
        expected = self._signature(key, said).encode()
        if not hmac.compare_digest(expected, signature.encode(errors="replace")):
            raise Forbidden("This link is not valid.")
        if now >= int(said["expires"]):
            raise Forbidden("This link is no longer valid; ask for a fresh one.")
        return said

    def _signature(self, key: str, said: Mapping[str, str]) -> str:
        # Quoted fields hold no line ends, so no two links share one message.
        fields = (key, *(said[name] for name in sorted(said)))
        message = "\n".join(quote(field, safe="", errors="replace") for field in fields)
        digest = hmac.digest(self._secret, message.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    async def _run(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                return await loop.run_in_executor(self._threads, work)
        except TimeoutError:
            raise ObjectsUnavailable("The disk of objects does not answer.") from None
        except OSError as error:
            raise _refusal(error) from error

    async def _chunks(
        self, file: BufferedReader, remaining: int | None
    ) -> AsyncGenerator[bytes, None]:
        with file:
            while remaining is None or remaining > 0:
                size = CHUNK if remaining is None else min(CHUNK, remaining)
                chunk = await self._run(partial(file.read, size))
                if not chunk:
                    return
                if remaining is not None:
                    remaining -= len(chunk)
                yield chunk

    def _keep_file(self, source: Path, target: Path) -> None:
        os.utime(source)  # a sweep reads the time at which it was kept
        self._sync(source)
        try:
            self._place(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._keep(partial(_copy, source), target)
            source.unlink()

    def _keep(self, write: Callable[[Path, bool], object], target: Path) -> None:
        incoming = self._path / INCOMING
        self._make_folder(incoming)
        temporary = incoming / secrets.token_hex(16)
        try:
            write(temporary, self._fsync)
            self._place(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _place(self, source: Path, target: Path) -> None:
        self._make_folder(target.parent)
        try:
            source.replace(target)
        except FileNotFoundError:  # somebody else took the folder away
            self._made.clear()
            self._make_folder(target.parent)
            source.replace(target)
        self._sync(target.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder in self._made:
            return
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self._sync(folder.parent)
        self._made.add(folder)

    def _sync(self, path: Path) -> None:
        if self._fsync:
            _sync(path)

    def _remove(self, files: Iterable[Path]) -> None:
        for file in files:
            with suppress(*ABSENT):
                file.unlink()


def _write(data: bytes, path: Path, fsync: bool) -> None:  # noqa: FBT001 — one of two ways to fill a file
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, path: Path, fsync: bool) -> None:  # noqa: FBT001 — the other way
    shutil.copyfile(source, path)
    if fsync:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shard(rest: str) -> str:
    """Return the folder of all keys that share their third segment."""
    return hashlib.blake2b(rest.partition("/")[0].encode(), digest_size=1).hexdigest()


def _open(path: Path, start: int) -> BufferedReader | None:
    try:
        file = path.open("rb")
    except ABSENT:
        return None
    file.seek(start)
    return file


def _in_memory(path: Path, limit: int) -> bytes | None:
    """Return the file if all of it can be had without waiting for the disk, else None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        if size > min(limit, LARGEST_AT_ONCE):
            return None
        data = bytearray(size)
        read = os.preadv(descriptor, [data], 0, _NOWAIT)
        return bytes(data) if read == size else None
    except OSError:  # part of it is on the disk, or this system cannot tell
        return None
    finally:
        os.close(descriptor)


def _read(path: Path, limit: int) -> bytes | None:
    file = _open(path, 0)
    if file is None:
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise TooLarge(f"The object has {size} bytes; the limit is {limit}.")
        return file.read(size)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except ABSENT:
        return None


def _type(key: str) -> str:
    return TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def _walk(root: Path, prefix: str, folder: str = "") -> Iterator[tuple[str, float]]:
    """Yield the keys below `folder`, which is made of whole segments and ends with a slash."""
    below_head = folder.count("/") == HEAD
    for entry in _entries(root / folder):
        key = folder + entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield from _dated(entry, key, prefix)
        elif below_head:
            if _may_hold(entry.name, prefix):
                for file in _entries(entry.path):
                    yield from _dated(file, folder + file.name.replace(JOINT, "/"), prefix)
        elif entry.name != INCOMING and f"{key}/".startswith(prefix[: len(key) + 1]):
            yield from _walk(root, prefix, f"{key}/")


def _may_hold(shard: str, prefix: str) -> bool:
    """Say whether keys with this prefix can be in that folder."""
    segments = prefix.split("/")
    return len(segments) <= HEAD + 1 or _shard(segments[HEAD]) == shard


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with suppress(*ABSENT), os.scandir(folder) as entries:
        yield from entries


def _dated(entry: os.DirEntry[str], key: str, prefix: str) -> Iterator[tuple[str, float]]:
    if key.startswith(prefix):
        with suppress(FileNotFoundError):  # deleted meanwhile
            yield key, entry.stat(follow_symlinks=False).st_mtime


def _sweep(incoming: Path, before: float) -> None:
    with suppress(FileNotFoundError), os.scandir(incoming) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_mtime < before:
                Path(entry.path).unlink(missing_ok=True)


def _refusal(error: OSError) -> ObjectsUnavailable | ObjectsRefused:
    if error.errno in FULL:
        return ObjectsUnavailable("The disk of objects is full.", retry_after=30.0)
    if error.errno in REFUSED:
        return ObjectsRefused("The folder of objects cannot be used.")
    return ObjectsUnavailable("The disk of objects does not work.")
