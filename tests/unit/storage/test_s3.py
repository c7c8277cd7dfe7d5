"""How objects in a bucket meet a store that lies, drips, hangs and refuses.

The promises on a healthy store are shown on a real one; here the store is a small server that does
what it is told.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from storage.objects import ObjectsRefused, ObjectsUnavailable
from storage.s3 import S3Objects
from storage.settings import ObjectsSettings


KEY, PNG = "t/j/0.png", "image/png"
BUCKET = "private-bucket"
ACCESS_KEY = "AKIAPRIVATE"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def error(status: int, code: str, *, headers: dict[str, str] | None = None) -> Answer:
    """The store's own way to say no."""
    said = f"<Error><Code>{code}</Code><Message>{BUCKET} {ACCESS_KEY}</Message></Error>"

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(
            status=status, text=said, content_type="application/xml", headers=headers
        )

    return answer


def kept(**headers: str) -> Answer:
    """A put that went well, told in these headers."""

    async def answer(request: web.Request) -> web.Response:
        etag = hashlib.md5(await request.read(), usedforsecurity=False).hexdigest()
        return web.Response(headers={"ETag": f'"{etag}"'} | headers)

    return answer


def dripping(size: int, *, said: int, pause: float) -> Answer:
    """So many bytes, one at a time, of an object that was said to have more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(said)})
        await response.prepare(request)
        for _ in range(size):
            await response.write(b"x")
            await asyncio.sleep(pause)
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


async def hanging(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError


class Store:
    """Answers with what is next in line; the last answer stays."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def objects(self, **changes: object) -> S3Objects:
        values = {
            "kind": "s3",
            "bucket": BUCKET,
            "endpoint_url": self.url,
            "addressing_style": "path",
            "connect_timeout": 1.0,
            "read_timeout": 0.5,
            "operation_timeout": 10.0,
        }
        return S3Objects(ObjectsSettings.model_validate(values | changes))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret that signs")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/{path:.*}", store.answer)
    async with TestServer(app) as server:
        store.url = str(server.make_url("/")).rstrip("/")
        yield store


@pytest.fixture
async def objects(store: Store) -> AsyncIterator[S3Objects]:
    objects = store.objects()
    yield objects
    await objects.close()


async def test_a_store_that_is_busy_for_a_moment_is_asked_again(
    store: Store, objects: S3Objects
) -> None:
    store.answers = [error(503, "SlowDown"), error(500, "InternalError"), kept()]
    await objects.put(KEY, b"picture", content_type=PNG)
    assert len(store.asked) == 3


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")]
)
async def test_a_store_that_stays_busy_is_unavailable(store: Store, status: int, code: str) -> None:
    objects = store.objects(max_attempts=2)
    store.answers = [error(status, code)]
    with pytest.raises(ObjectsUnavailable, match=code):
        await objects.put(KEY, b"picture", content_type=PNG)
    assert len(store.asked) == 2
    await objects.close()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (404, "NoSuchBucket"),
        (400, "InvalidRequest"),
        (501, "NotImplemented"),
    ],
)
async def test_a_refusal_is_not_tried_again_and_names_nothing(
    store: Store, objects: S3Objects, status: int, code: str
) -> None:
    store.answers = [error(status, code)]
    for asked in (objects.put(KEY, b"x", content_type=PNG), objects.get(KEY, limit=9)):
        store.asked.clear()
        with pytest.raises(ObjectsRefused, match=code) as caught:
            await asked
        assert len(store.asked) == 1
        for private in (BUCKET, ACCESS_KEY, KEY, store.url):
            assert private not in str(caught.value)


async def test_a_key_that_is_not_there_is_none(store: Store, objects: S3Objects) -> None:
    store.answers = [error(404, "NoSuchKey")]
    assert await objects.get(KEY, limit=9) is None
    assert await objects.stream(KEY) is None
    assert await objects.stat(KEY) is None


async def test_no_credentials_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    objects = store.objects()
    with pytest.raises(ObjectsRefused, match="NoCredentials"):
        await objects.get(KEY, limit=9)
    with pytest.raises(ObjectsRefused, match="NoCredentials"):
        objects.link(KEY, content_type=PNG, filename="a", lifetime=60, now=time.time())
    assert store.asked == []
    await objects.close()


async def test_settings_that_cannot_be_are_refused(store: Store) -> None:
    with pytest.raises(ObjectsRefused):
        store.objects(endpoint_url="not a url")


async def test_a_store_that_kept_other_bytes_is_unavailable_and_the_file_stays(
    store: Store, objects: S3Objects, tmp_path: Path
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"picture")
    store.answers = [kept(ETag=f'"{hashlib.md5(b"pict", usedforsecurity=False).hexdigest()}"')]
    for data in (b"picture", file):
        with pytest.raises(ObjectsUnavailable, match="other bytes"):
            await objects.put(KEY, data, content_type=PNG)
    assert file.read_bytes() == b"picture"


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"9b2cf535f27731c974343645a3985328-2"'},
        {"ETag": '"' + "0" * 32 + '"', "x-amz-server-side-encryption": "aws:kms"},
        {"ETag": '"' + "0" * 32 + '"', "x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ],
)
async def test_an_etag_that_is_no_md5_of_the_bytes_is_believed(
    store: Store, objects: S3Objects, headers: dict[str, str]
) -> None:
    store.answers = [kept(**headers)]
    await objects.put(KEY, b"picture", content_type=PNG)


async def test_an_upload_says_what_every_store_understands(
    store: Store, objects: S3Objects
) -> None:
    store.answers = [kept()]
    await objects.put(KEY, b"picture", content_type=PNG)
    headers = store.asked[0].headers
    assert headers["Content-Type"] == PNG
    assert headers["Content-Length"] == "7"
    assert headers["Cache-Control"].startswith("private")
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"picture").hexdigest()
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
    for modern in ("Expect", "Transfer-Encoding", "Content-Encoding", "x-amz-trailer"):
        assert modern not in headers


async def test_an_endpoint_from_the_environment_without_tls_is_signed_as_well(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
    objects = store.objects(endpoint_url=None)
    store.answers = [kept()]
    await objects.put(KEY, b"picture", content_type=PNG)
    sent = store.asked[0].headers["x-amz-content-sha256"]
    assert sent == hashlib.sha256(b"picture").hexdigest()
    await objects.close()


async def test_a_batch_of_deletes_carries_the_checksum_that_old_stores_want(
    store: Store, objects: S3Objects
) -> None:
    sizes = []

    async def answer(request: web.Request) -> web.Response:
        sizes.append((await request.text()).count("<Object>"))
        return web.Response(text="<DeleteResult/>", content_type="application/xml")

    store.answers = [answer]
    await objects.delete(f"t/{at}.png" for at in range(2001))
    assert sizes == [1000, 1000, 1]
    assert all("Content-MD5" in request.headers for request in store.asked)


@pytest.mark.parametrize(
    ("code", "raised"), [("AccessDenied", ObjectsRefused), ("InternalError", ObjectsUnavailable)]
)
async def test_one_key_that_was_not_deleted_is_told(
    store: Store, objects: S3Objects, code: str, raised: type[Exception]
) -> None:
    said = f"<DeleteResult><Error><Key>a</Key><Code>{code}</Code></Error></DeleteResult>"

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=said, content_type="application/xml")

    store.answers = [answer]
    with pytest.raises(raised, match=code):
        await objects.delete([KEY])


async def test_a_listing_goes_on_over_its_pages(store: Store) -> None:
    objects = store.objects(prefix="here")

    async def answer(request: web.Request) -> web.Response:
        assert request.query["prefix"] == "here/t/"
        page = int(request.query.get("continuation-token", "0"))
        more = f"<NextContinuationToken>{page + 1}</NextContinuationToken>" if page < 2 else ""
        item = f"<Key>here/t/{page}.png</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
        said = f"<ListBucketResult>{more}<Contents>{item}</Contents></ListBucketResult>"
        return web.Response(text=said, content_type="application/xml")

    store.answers = [answer]
    found = [found async for found in objects.keys("t/")]
    assert found == [(f"t/{page}.png", 1_767_225_600.0) for page in range(3)]
    await objects.close()


async def test_a_page_that_is_no_listing_is_unavailable(store: Store) -> None:
    objects = store.objects(max_attempts=1)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>Please sign in to the network", content_type="text/html")

    store.answers = [answer]
    with pytest.raises(ObjectsUnavailable):
        await anext(aiter(objects.keys("t/")))
    await objects.close()


async def test_an_object_that_ends_too_soon_is_unavailable(
    store: Store, objects: S3Objects
) -> None:
    store.answers = [dripping(10, said=1000, pause=0)]
    with pytest.raises(ObjectsUnavailable):
        await objects.get(KEY, limit=2000)
    chunks = await objects.stream(KEY)
    assert chunks is not None
    with pytest.raises(ObjectsUnavailable):
        async for _ in chunks:
            pass


async def test_a_store_that_serves_the_whole_for_a_part_is_refused(
    store: Store, objects: S3Objects
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"the whole object")

    store.answers = [answer]
    with pytest.raises(ObjectsRefused, match="parts"):
        await objects.stream(KEY, start=4, end=6)


async def test_a_store_that_hangs_is_unavailable_in_time(store: Store) -> None:
    objects = store.objects(max_attempts=1)
    store.answers = [hanging]
    started = time.monotonic()
    with pytest.raises(ObjectsUnavailable):
        await objects.get(KEY, limit=9)
    assert time.monotonic() - started < 3
    await objects.close()


async def test_a_store_that_drips_is_given_up_and_others_go_on(store: Store) -> None:
    """No gap is longer than the read timeout, so only the end of the operation helps."""
    objects = store.objects(operation_timeout=0.6, max_connections=1)
    store.answers = [dripping(40, said=1000, pause=0.05), kept()]
    started = time.monotonic()
    with pytest.raises(ObjectsUnavailable, match="in time"):
        await objects.get(KEY, limit=9999)
    await objects.put(KEY, b"picture", content_type=PNG)
    assert time.monotonic() - started < 1.5
    await objects.close()


async def test_an_upload_that_nobody_takes_is_given_up() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(30)
        finally:
            writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0, limit=4096)
    async with server:
        port = server.sockets[0].getsockname()[1]
        store = Store()
        store.url = f"http://127.0.0.1:{port}"
        objects = store.objects(operation_timeout=1.0, connect_timeout=0.3, max_attempts=3)
        started = time.monotonic()
        with pytest.raises(ObjectsUnavailable):
            await objects.put(KEY, os.urandom(20_000_000), content_type=PNG)
        assert time.monotonic() - started < 2.5
        await objects.close()


async def test_a_cancelled_upload_stops_sending(store: Store) -> None:
    """Its thread looks, between two blocks, whether somebody still waits."""
    got = 0
    ended = asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        nonlocal got
        try:
            async for chunk in request.content.iter_chunked(16_384):
                got += len(chunk)
                await asyncio.sleep(0.01)
        finally:
            ended.set()
        return web.Response()

    objects = store.objects()
    store.answers = [slowly]
    putting = asyncio.create_task(objects.put(KEY, bytes(50_000_000), content_type=PNG))
    while got < 100_000:
        await asyncio.sleep(0.01)
    putting.cancel()
    async with asyncio.timeout(10):
        await ended.wait()
    assert got < 20_000_000
    await objects.close()


async def test_the_loop_is_not_held_by_a_stream_that_was_left(store: Store) -> None:
    objects = store.objects(read_timeout=5.0)

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"x" * 300_000)
        await asyncio.sleep(3)
        return response

    store.answers = [half]
    chunks = await objects.stream(KEY)
    assert chunks is not None
    async with aclosing(chunks):
        assert len(await anext(chunks)) == 256 * 1024
        second = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0.1)
        second.cancel()
        started = time.monotonic()
        await asyncio.gather(second, return_exceptions=True)
    assert time.monotonic() - started < 0.5
    await objects.close()


async def test_a_link_points_where_clients_reach_the_store(store: Store) -> None:
    objects = store.objects(public_endpoint_url="https://images.example.com", prefix="p=1")
    link = objects.link(KEY, content_type=PNG, filename="a.png", lifetime=90.9, now=1000.5)
    parts = urlsplit(link.url)
    said = dict(parse_qsl(parts.query))
    assert (parts.scheme, parts.netloc) == ("https", "images.example.com")
    assert parts.path == f"/{BUCKET}/p%3D1/{KEY}"
    assert said["X-Amz-Expires"] == "90"
    assert link.expires_at == 1090.0
    assert said["X-Amz-SignedHeaders"] == "host"
    assert said["response-content-type"] == PNG
    assert "a secret that signs" not in link.url
    assert store.asked == []
    await objects.close()


async def test_temporary_credentials_are_in_the_link(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for a while")
    objects = store.objects()
    link = objects.link(KEY, content_type=PNG, filename="a", lifetime=60, now=time.time())
    assert dict(parse_qsl(urlsplit(link.url).query))["X-Amz-Security-Token"] == "for a while"
    await objects.close()


async def test_the_bucket_may_be_in_the_host_name(store: Store) -> None:
    objects = store.objects(
        addressing_style="virtual", public_endpoint_url="https://s3.example.com"
    )
    link = objects.link(KEY, content_type=PNG, filename="a", lifetime=60, now=time.time())
    assert urlsplit(link.url).netloc == f"{BUCKET}.s3.example.com"
    assert urlsplit(link.url).path == f"/{KEY}"
    await objects.close()
