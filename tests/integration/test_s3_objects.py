"""Objects in a bucket: the common promises, kept by a server that checks signatures."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from yarl import URL

from storage.errors import Error
from storage.objects import Objects, ObjectsRefused, ObjectsUnavailable, Stat, open_objects
from storage.settings import ObjectsSettings
from tests.s3server.fixtures import s3_bucket, s3_buckets, s3_server
from tests.s3server.server import S3Server
from tests.suites.objects import KEY, PNG, Fetched, ObjectsSuite, fetched


__all__ = ["s3_bucket", "s3_buckets", "s3_server"]


def opened(server: S3Server, bucket: str, **changes: object) -> Objects:
    values = {
        "kind": "s3",
        "bucket": bucket,
        "endpoint_url": server.url,
        "region": server.region,
        "addressing_style": "path",
        "prefix": "darkroom/",
    }
    settings = ObjectsSettings.model_validate(values | changes)
    return open_objects(settings, secret=b"", public_url="")


class Outside:
    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def fetch(self, url: str) -> Fetched:
        return await fetched(self._session, url)

    async def later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # the server's clock is the real one


@pytest.fixture
async def objects(s3_server: S3Server, s3_bucket: str) -> AsyncIterator[Objects]:
    objects = opened(s3_server, s3_bucket)
    yield objects
    await objects.close()


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with ClientSession() as session:
        yield Outside(session)


class TestS3Objects(ObjectsSuite):
    """The promises, kept by a bucket."""


async def test_over_tls_bytes_are_not_signed_and_come_back(
    s3_server: S3Server, s3_bucket: str
) -> None:
    data = os.urandom(1_000_000)
    for unsigned in (True, False):
        objects = opened(
            s3_server, s3_bucket, endpoint_url=s3_server.tls_url, unsigned_payload=unsigned
        )
        await objects.put(KEY, data, content_type=PNG)
        assert await objects.get(KEY, limit=len(data)) == data
        await objects.delete([KEY])
        await objects.close()


async def test_prefixes_in_one_bucket_do_not_see_each_other(
    s3_server: S3Server, s3_bucket: str
) -> None:
    one, other, all_ = (
        opened(s3_server, s3_bucket, prefix=prefix) for prefix in ("one", "/other/", "")
    )
    await one.put(KEY, b"one", content_type=PNG)
    await other.put(KEY, b"other", content_type=PNG)
    assert await one.get(KEY, limit=10) == b"one"
    assert await other.get(KEY, limit=10) == b"other"
    assert [key async for key, _ in one.keys("tenant_1/")] == [KEY]
    assert [key async for key, _ in all_.keys("")] == [f"one/{KEY}", f"other/{KEY}"]
    for objects in (one, other, all_):
        await objects.close()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_SECRET_ACCESS_KEY", "wrong-secret"), ("AWS_ACCESS_KEY_ID", "tests:nobody")],
)
async def test_wrong_credentials_are_refused_at_once_and_not_named(
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(variable, value)
    objects = opened(s3_server, s3_bucket)
    started = time.monotonic()
    for refused in (
        objects.put(KEY, b"x", content_type=PNG),
        objects.get(KEY, limit=1),
        objects.stat(KEY),
        objects.stream(KEY),
        objects.delete([KEY]),
        objects.check(),
    ):
        with pytest.raises(ObjectsRefused) as caught:
            await refused
        assert_says_nothing(caught.value, s3_server, s3_bucket, value)
    assert time.monotonic() - started < 3
    await objects.close()


async def test_a_link_signed_with_a_wrong_secret_opens_nothing(
    s3_server: S3Server,
    s3_bucket: str,
    objects: Objects,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await objects.put(KEY, b"secret", content_type=PNG)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    forger = opened(s3_server, s3_bucket)
    link = forger.link(KEY, content_type=PNG, filename="a.png", lifetime=60, now=time.time())
    got = await outside.fetch(link.url)
    assert got.status == 403
    assert b"secret" not in got.body
    await forger.close()


async def test_an_upload_link_takes_what_was_announced_and_nothing_else(objects: Objects) -> None:
    data = os.urandom(100_000)
    upload = objects.upload_link(
        KEY, content_type=PNG, size=len(data), lifetime=60, now=time.time()
    )

    async def put(body: bytes, content_type: str = PNG, url: str = upload.url) -> int:
        headers = {**upload.headers, "Content-Type": content_type}
        target = URL(url, encoded=True)
        async with (
            ClientSession() as session,
            session.put(target, data=body, headers=headers) as got,
        ):
            return got.status

    assert await put(data + b"x") == 403
    assert await put(data[:-1]) == 403
    assert await put(data, "text/html") == 403
    assert await put(data, url=upload.url.replace("/0.png?", "/1.png?")) == 403
    assert await objects.stat(KEY) is None
    assert await put(data) == 200
    assert await objects.get(KEY, limit=len(data)) == data
    assert await objects.stat(KEY) == Stat(len(data), PNG)


async def test_a_bucket_that_is_not_there_is_refused_and_not_named(
    s3_server: S3Server, s3_bucket: str
) -> None:
    bucket = f"absent-{secrets.token_hex(4)}"
    objects = opened(s3_server, bucket)
    for refused in (
        objects.put(KEY, b"x", content_type=PNG),
        objects.get(KEY, limit=1),
        objects.stream(KEY),
        objects.delete([KEY]),
        objects.check(),
    ):
        with pytest.raises(ObjectsRefused) as caught:
            await refused
        assert_says_nothing(caught.value, s3_server, bucket, bucket)
    await objects.close()


async def test_a_store_that_is_down_is_unavailable_soon(
    s3_server: S3Server, s3_bucket: str, unused_tcp_port: int
) -> None:
    objects = opened(s3_server, s3_bucket, endpoint_url=f"http://127.0.0.1:{unused_tcp_port}")
    for asked in (objects.put(KEY, b"x", content_type=PNG), objects.get(KEY, limit=1)):
        started = time.monotonic()
        with pytest.raises(ObjectsUnavailable) as caught:
            await asked
        assert time.monotonic() - started < 6
        assert_says_nothing(caught.value, s3_server, s3_bucket, str(unused_tcp_port))
    await objects.close()


def assert_says_nothing(error: Error, server: S3Server, bucket: str, also: str) -> None:
    """A refusal travels to callers and logs: it names nothing of the operator's."""
    shown = f"{error} {error!r} {error.__cause__!r}"
    for private in (bucket, KEY, server.access_key, server.secret_key, "127.0.0.1", also):
        assert private not in shown
    assert error.__suppress_context__
