"""Objects in a bucket of anything that speaks S3: AWS, MinIO, Ceph, R2.

boto3 blocks, and its timeouts watch the gaps between bytes, so that a store that drips one byte a
second holds it for ever. So it runs in threads, every operation has one end for all its tries, and
what goes over the wire is taken in blocks between which the thread looks whether somebody still
waits. Nobody imports this module before it is asked for: boto3 costs 30 MB.
"""

import asyncio
import hashlib
import io
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Self, TypeVar, cast

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from storage.errors import TooLarge
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
    disposition,
)
from storage.s3_client import (
    FAILURES,
    Signer,
    code_of,
    is_absent,
    judged,
    open_client,
    open_session,
    refusal,
)
from storage.settings import ObjectsSettings


if TYPE_CHECKING:
    from types_boto3_s3.type_defs import PutObjectOutputTypeDef


T = TypeVar("T")

BLOCK: Final = 64 * 1024  # bytes that go over the wire between two looks at the clock
BATCH: Final = 1000  # keys in one delete and in one page; S3 takes no more
# A link is a bearer token, so no shared cache may keep what it opened.
CACHE_CONTROL: Final = "private, max-age=300"


class S3Objects:
    """Objects of one bucket, below the prefix of the settings.

    Links are signed on the event loop with the credentials at hand; temporary ones are renewed by
    whichever call finds them near their end, and a link does not outlive them.
    """

    def __init__(self, settings: ObjectsSettings) -> None:
        self._bucket = settings.bucket
        self._prefix = settings.prefix.strip("/") + "/" if settings.prefix.strip("/") else ""
        self._timeout = settings.operation_timeout
        self._verify = settings.verify_uploads
        session = open_session(settings)
        self._client = self._public = open_client(session, settings, settings.endpoint_url)
        if settings.public_endpoint_url is not None:
            self._public = open_client(session, settings, settings.public_endpoint_url)
        self._signer = Signer(self._public, session, settings.bucket)
        self._slots = asyncio.Semaphore(settings.max_connections)
        # A thread can be left behind in a read that nobody awaits; the others must not wait for it.
        self._threads = ThreadPoolExecutor(settings.max_connections * 2, "objects")

    async def put(self, key: str, data: bytes | Path, *, content_type: str) -> None:
        await self._run(partial(self._put, self._name(key), data, checked_type(content_type)))

    async def get(self, key: str, *, limit: int) -> bytes | None:
        return await self._run(partial(self._get, self._name(key), limit))

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None] | None:
        checked_range(start, end)
        body = await self._run(partial(self._open, self._name(key), start, end))
        return None if body is None else self._chunks(body)

    async def stat(self, key: str) -> Stat | None:
        return await self._run(partial(self._stat, self._name(key)))

    async def delete(self, keys: Iterable[str]) -> None:
        names = [self._name(key) for key in keys]
        for at in range(0, len(names), BATCH):
            await self._run(partial(self._delete, names[at : at + BATCH]))

    def link(
        self, key: str, *, content_type: str, filename: str, lifetime: float, now: float
    ) -> Link:
        seconds = max(1, int(checked_lifetime(lifetime)))
        said = {
            "response-content-type": checked_type(content_type),
            "response-content-disposition": disposition(filename),
        }
        url = self._signer.sign(self._name(key), said, seconds=seconds)
        return Link(url, float(int(now) + seconds))

    def upload_link(
        self, key: str, *, content_type: str, size: int, lifetime: float, now: float
    ) -> Upload:
        seconds = max(1, int(checked_lifetime(lifetime)))
        said = {
            "Bucket": self._bucket,
            "Key": self._name(key),
            "ContentType": checked_type(content_type),
            "ContentLength": size,
        }
        url = self._public.generate_presigned_url("put_object", Params=said, ExpiresIn=seconds)
        return Upload(url, {"Content-Type": content_type}, float(int(now) + seconds))

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, float]]:
        name, token = self._prefix + checked_prefix(prefix), ""
        while True:
            page = await self._run(partial(self._page, name, token))
            for found in page.found:
                yield found
            if page.token in ("", token):
                return
            token = page.token

    async def check(self) -> None:
        key, probe = f"_check/{secrets.token_hex(16)}.json", b"{}"
        await self.put(key, probe, content_type="application/json")
        if await self.get(key, limit=len(probe)) != probe:
            raise ObjectsRefused("The object store does not give back what it was given.")
        await self.delete([key])

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._public.close()

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    async def _run(self, work: Callable[["_Span"], T]) -> T:
        span = _Span(self._timeout)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                return await loop.run_in_executor(self._threads, work, span)
        except TimeoutError:
            raise ObjectsUnavailable("The object store did not answer in time.") from None
        except FAILURES as error:
            # Their texts name the bucket, the host and sometimes the access key.
            raise refusal(error) from None
        finally:
            span.cut()

    def _put(self, name: str, data: bytes | Path, content_type: str, span: "_Span") -> None:
        with _Upload(data, span) as upload:
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=name,
                Body=cast("BinaryIO", upload),
                ContentLength=len(upload),
                ContentType=content_type,
                CacheControl=CACHE_CONTROL,
            )
        if self._verify and _differs(answer, data):
            raise ObjectsUnavailable("The object store kept other bytes than it was sent.")
        if isinstance(data, Path):
            data.unlink(missing_ok=True)

    def _get(self, name: str, limit: int, span: "_Span") -> bytes | None:
        body = self._open(name, 0, None, span)
        if body is None:
            return None
        blocks, size = [], 0
        try:
            while block := body.read(BLOCK):
                span.check()
                size += len(block)
                if size > limit:
                    raise TooLarge(f"The object is larger than {limit} bytes.")
                blocks.append(block)
        finally:
            body.close()
        return b"".join(blocks)

    def _open(
        self, name: str, start: int, end: int | None, span: "_Span"
    ) -> "StreamingBody | io.BytesIO | None":
        span.check()
        asked: dict[str, Any] = {}
        if start or end is not None:
            asked["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=name, **asked)
        except ClientError as error:
            if code_of(error) == "InvalidRange":
                return io.BytesIO()
            if is_absent(error):
                return None
            raise
        if asked and "ContentRange" not in answer:
            answer["Body"].close()
            raise ObjectsRefused("The object store does not serve parts of objects.")
        return answer["Body"]

    async def _chunks(self, body: StreamingBody | io.BytesIO) -> AsyncGenerator[bytes, None]:
        try:
            while chunk := await self._run(lambda _: body.read(CHUNK)):
                yield chunk
        finally:
            # It waits for a read that was left behind, so not here; the pool may be gone already.
            with suppress(RuntimeError):
                self._threads.submit(body.close)

    def _stat(self, name: str, _: "_Span") -> Stat | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return Stat(answer["ContentLength"], answer["ContentType"])

    def _delete(self, names: list[str], _: "_Span") -> None:
        answer = self._client.delete_objects(
            Bucket=self._bucket,
            Delete={"Objects": [{"Key": name} for name in names], "Quiet": True},
        )
        for error in answer.get("Errors", []):
            if error.get("Code") != "NoSuchKey":
                raise judged(error.get("Code", ""), status=200)

    def _page(self, name: str, token: str, _: "_Span") -> "_Page":
        asked: dict[str, Any] = {"ContinuationToken": token} if token else {}
        answer = self._client.list_objects_v2(
            Bucket=self._bucket, Prefix=name, MaxKeys=BATCH, **asked
        )
        found = [
            (item["Key"].removeprefix(self._prefix), item["LastModified"].timestamp())
            for item in answer.get("Contents", [])
        ]
        return _Page(found, answer.get("NextContinuationToken", ""))


class _Page(NamedTuple):
    found: list[tuple[str, float]]
    token: str


class _Late(OSError):
    """Nobody waits for this any more."""


class _Span:
    """How long a thread may go on with one operation."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise _Late

    def cut(self) -> None:
        self._end = float("-inf")


class _Upload:
    """What boto3 sends, block by block, as long as somebody waits for it."""

    def __init__(self, data: bytes | Path, span: _Span) -> None:
        self._file: BinaryIO = data.open("rb") if isinstance(data, Path) else io.BytesIO(data)
        self._size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        self._span = span

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def read(self, _: int = -1) -> bytes:
        # Whatever was asked for: urllib3 would send 16 KiB at a time, at twice the cost.
        self._span.check()
        return self._file.read(BLOCK)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._span.check()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _differs(answer: "PutObjectOutputTypeDef", data: bytes | Path) -> bool:
    etag = answer.get("ETag", "").strip('"').lower()
    if answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer:
        return False  # then it is an MD5 of something else
    if re.fullmatch(r"[0-9a-f]{32}", etag) is None:
        return False
    if isinstance(data, bytes):
        return etag != hashlib.md5(data, usedforsecurity=False).hexdigest()
    with data.open("rb") as file:
        md5 = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
    return etag != md5.hexdigest()
