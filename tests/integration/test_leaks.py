"""What must stay secret is sown in everything that comes in, and then looked for everywhere.

An upstream that repeats whatever it was told, a receiver that refuses, broken requests, a record
that cannot be read and processes that are killed: the walk is taken with all of them. Then the
logs, the figures, every error that was told, every key and value in Redis and the files that Redis
and the service left are searched, also in base64 and percent-encoded.
"""

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from storage.tenant import presented
from tests import images
from tests.integration.walk import ended
from tests.processes import CATALOG, Installation, installed
from tests.receiver import receiving


PROVIDER_KEY = "canary-upstream-key-7c1f0e52"
INSTALLATION = "canary-installation-secret-8d20b1f4"
PROMPT = "canaryprompt5be1"
UPLOAD = "canaryupload6cf2"
FILE_NAME = "canaryfilename7d03"
IDEMPOTENCY = "canary-idempotency-8e14"
HOOK_TOKEN = "canary-hook-token-9f25"
IMAGE_TOKEN = "canary-image-token-a036"
STRANGER = "canary-stranger-b147"

ECHOES = {"echo-400": 400, "echo-401": 401, "echo-403": 403, "echo-500": 500, "echo-page": 200}


@dataclass
class Hunt:
    """What is looked for, by name, and everything that was told to clients as an error."""

    here: Installation
    canaries: dict[str, str]
    errors: list[str] = field(default_factory=list)

    def found_in(self, haystack: bytes) -> set[str]:
        """Return the names of the canaries that a text holds in some guise."""
        return {
            name
            for name, canary in self.canaries.items()
            if any(guise in haystack for guise in guises(canary))
        }


def guises(canary: str) -> Iterator[bytes]:
    """Yield a canary as it is, percent-encoded, and in base64 wherever it may begin."""
    plain = canary.encode()
    yield plain
    yield quote(canary, safe="").encode()
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + plain)
        yield coded[4 if shift else 0 : -4]


# -- the world: an upstream that repeats, a place of images ----------------------------------------


async def echo(request: web.Request) -> web.Response:
    """Refuse with everything that was asked, its key included."""
    said = (await request.read()).decode(errors="replace")
    told = f"You said {said} with {dict(request.headers)} at {request.url}"
    status = int(request.match_info["status"])
    if status == 200:
        return web.Response(text=f"<html>{told}</html>", content_type="text/html")
    error = {"message": told, "type": "invalid_request_error", "code": told[:200]}
    return web.json_response({"error": error}, status=status)


async def picture(request: web.Request) -> web.Response:
    return web.Response(body=images.picture(), content_type="image/png")


@asynccontextmanager
async def world() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/echo/{status}/{rest:.*}", echo)
    app.router.add_get("/picture.png", picture)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def catalog(url: str) -> str:
    return CATALOG + "".join(
        f'\n[[deployments]]\nname = "{name}"\nmodel = "{name}"\nprovider = "openai"\n'
        f'base_url = "{url}/echo/{status}"\napi_key_env = "FAKE_OPENAI_KEY"\ntimeout = 10\n'
        for name, status in ECHOES.items()
    )


# -- the walk --------------------------------------------------------------------------------------


async def told(hunt: Hunt, answer: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
    """Note an answer that is an error, headers and all."""
    got = await answer
    if got.status >= 400:
        hunt.errors.append(f"{got.status} {dict(got.headers)} {await got.text()}")
    return got


async def succeed(hunt: Hunt, client: aiohttp.ClientSession, url: str) -> str:
    """Take every way that ends well; returns a link to an image."""
    body = {"model": "gpt-image-2", "prompt": f"{PROMPT} native"}
    headers = {"Idempotency-Key": IDEMPOTENCY}
    answer = await client.post("/v1/jobs", json=body, headers=headers)
    job = await ended(client, (await answer.json())["id"])
    assert job["status"] == "succeeded"
    await client.post("/v1/images/generations", json={**body, "response_format": "url"})
    form = aiohttp.FormData({"model": "gpt-image-2", "prompt": f"{PROMPT} edit"})
    upload = images.with_chunk(images.picture(), b"tEXt", b"Comment\x00" + UPLOAD.encode())
    name = f"{FILE_NAME}.png"
    form.add_field("image", upload, filename=name, content_type="image/png")
    answer = await client.post("/v1/images/edits", data=form)
    assert answer.status == 200, await answer.text()
    named = {"image_url": f"{url}/picture.png?X-Amz-Signature={IMAGE_TOKEN}"}
    answer = await client.post("/v1/jobs", json={**body, "images": [named]})
    assert (await ended(client, (await answer.json())["id"]))["status"] == "succeeded"
    link = str(job["images"][0]["url"])
    assert (await client.get(link)).status == 200
    return link


async def fail(hunt: Hunt, client: aiohttp.ClientSession, hook: str, link: str) -> None:
    """Take every way that ends badly."""
    for model in ECHOES:
        body: dict[str, Any] = {"model": model, "prompt": f"{PROMPT} {model}"}
        body["webhook_url"] = f"{hook}?token={HOOK_TOKEN}"
        answer = await client.post("/v1/jobs", json=body)
        await ended(client, (await answer.json())["id"])
    body = {"model": "echo-401", "prompt": f"{PROMPT} sync"}
    await told(hunt, client.post("/v1/images/generations", json=body))
    for wrong in (
        f'{{"prompt": "{PROMPT}',
        f'{{"prompt": "{PROMPT}", "a field that nobody knows": 1}}',
        f'{{"prompt": ["{PROMPT}"]}}',
        f'{{"prompt": "x", "size": "{PROMPT}"}}',
        f'{{"prompt": "x", "metadata": {{"a": ["{PROMPT}"]}}}}',
        f'{{"prompt": "x", "images": [{{"image_url": "data:image/png;base64,{PROMPT}!"}}]}}',
        f'{{"prompt": "x", "images": [{{"image_url": "http://10.0.0.1/?{IMAGE_TOKEN}"}}]}}',
        f'{{"prompt": "x", "webhook_url": "https://u:{HOOK_TOKEN}@example.com/"}}',
    ):
        for door in ("/v1/jobs", "/v1/images/generations", "/v1/chat/completions"):
            headers = {"Content-Type": "application/json"}
            await told(hunt, client.post(door, data=wrong, headers=headers))
    await told(hunt, client.get(link[:-4] + "0000"))
    await told(hunt, client.get(f"/v1/jobs?cursor={STRANGER}&unheard-of={STRANGER}"))
    await told(hunt, client.get(f"/v1/jobs/{STRANGER}"))
    await told(hunt, client.get(f"/nowhere/{STRANGER}?key={hunt.here.key}"))


async def guess(hunt: Hunt) -> None:
    """Come with keys that are wrong, doubled, broken, and in places where no key belongs."""
    key = hunt.here.key
    async with aiohttp.ClientSession(hunt.here.url) as client:
        for value in (f"Bearer {key}x", f"Basic {key}", key, f"Bearer {STRANGER}", "Bearer"):
            headers = {"Authorization": value}
            await told(hunt, client.get("/v1/jobs", headers=headers))
        await told(hunt, client.get(f"/v1/jobs?api_key={key}"))
    parts = urlsplit(hunt.here.url)
    for broken in (
        f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\x00\r\n\r\n",
        f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization\x01: Bearer {key}\r\n\r\n",
        f"GET /v1/jobs?{key} HTTP/9.9\r\nHost: x\r\n\r\n",
        f"{key} / HTTP/1.1\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Key: {key}\r\nContent-Length: {PROMPT}\r\n\r\n",
        f"POST / HTTP/1.1\r\nX-Request-Id: {key}\r\nTransfer-Encoding: {PROMPT}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Long: {key * 200}\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(broken.encode("latin-1"))
        with contextlib.suppress(TimeoutError):
            answer = await asyncio.wait_for(reader.read(65_536), 1)
            hunt.errors.append(answer.decode("latin-1"))
        writer.close()


async def crash(hunt: Hunt, client: aiohttp.ClientSession, redis: Commands) -> None:
    """Break a record, kill processes in the middle of their work, and take Redis away."""
    here = hunt.here
    body = {"model": "gpt-image-2", "prompt": f"{PROMPT} broken"}
    answer = await client.post("/v1/jobs", json=body)
    job_id = (await answer.json())["id"]
    await ended(client, job_id)
    record = f"darkroom:job:{job_id}"
    document = await redis.execute("HGET", record, "document")
    await redis.execute("HSET", record, "document", document.replace(b'"n":1', b'"n":"x"'))
    await told(hunt, client.get(f"/v1/jobs/{job_id}"))
    await redis.execute("ZADD", "darkroom:appointments", 0, job_id)  # for the reaper to meet it
    body = {"model": "gpt-image-2", "prompt": f"{PROMPT} killed [[slow:2]]"}
    answer = await client.post("/v1/jobs", json=body)
    killed = (await answer.json())["id"]
    await asyncio.sleep(0.7)
    for program in (here.workers[0], here.service):
        await program.kill()
        await program.start()
    await here.wait_ready()
    await ended(client, killed)
    await here.redis.kill()
    await told(hunt, client.post("/v1/jobs", json=body))
    await told(hunt, client.get(f"/v1/jobs/{killed}"))
    await here.redis.start()
    await here.wait_ready()
    await asyncio.sleep(6)  # the reaper looks


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hunt(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hunt]:
    folder = tmp_path_factory.mktemp("leaks")
    options: Any = {
        "FAKE_OPENAI_KEY": PROVIDER_KEY,
        "DARKROOM_SECRET": INSTALLATION,
        "DARKROOM_LOG_LEVEL": "debug",
        "DARKROOM_WORKER__LEASE": "2",
        "DARKROOM_WORKER__HEARTBEAT": "0.5",
        "DARKROOM_WORKER__WEBHOOK_SCALE": "0.01",
    }
    async with (
        world() as url,
        receiving() as receiver,
        installed(folder, catalog=catalog(url), **options) as here,
        here.client() as client,
    ):
        shown = presented(here.key)
        assert shown is not None
        async with client.get("/v1/webhook-secret") as answer:
            receiver.secret = (await answer.json())["secret"]
        receiver.status = lambda _: 500
        hunt = Hunt(
            here,
            {
                "prompt": PROMPT,
                "upload": UPLOAD,
                "file name": FILE_NAME,
                "key": re.split("_", here.key, maxsplit=3)[3].rpartition("_")[0],
                "digest": shown.digest,
                "idempotency key": IDEMPOTENCY,
                "webhook secret": receiver.secret.removeprefix("whsec_"),
                "hook token": HOOK_TOKEN,
                "image token": IMAGE_TOKEN,
                "provider key": PROVIDER_KEY,
                "installation secret": INSTALLATION,
                "stranger": STRANGER,
            },
        )
        link = await succeed(hunt, client, url)
        hunt.canaries["signature"] = urlsplit(link).query.rpartition("signature=")[2][:40]
        assert len(hunt.canaries["signature"]) >= 20
        redis = Commands(connect(RedisSettings(url=here.redis_url)))
        await fail(hunt, client, receiver.url, link)
        await guess(hunt)
        await crash(hunt, client, redis)
        assert receiver.messages
        yield hunt
        await redis.close()


# -- what was found --------------------------------------------------------------------------------

pytestmark = pytest.mark.timeout(180)
in_module = pytest.mark.asyncio(loop_scope="module")


@in_module
async def test_the_logs_hold_none(hunt: Hunt) -> None:
    logs = {path.name: path.read_bytes() for path in hunt.here.folder.glob("*.log")}
    del logs["upstream.log"]  # the fake's own
    assert all(hunt.found_in(text) == set() for text in logs.values()), {
        name: hunt.found_in(text) for name, text in logs.items()
    }
    assert b'"job_ended"' in logs["worker-0.log"]
    assert b'"record_unreadable"' in logs["service.log"]
    assert b'"look_fault"' in logs["worker-0.log"]


@in_module
async def test_the_figures_hold_none(hunt: Hunt) -> None:
    async with aiohttp.ClientSession(hunt.here.url) as client, client.get("/metrics") as answer:
        page = await answer.read()
    assert b"darkroom_http_requests_total" in page
    assert hunt.found_in(page) == set()


@in_module
async def test_no_error_repeats_what_was_sent(hunt: Hunt) -> None:
    assert len(hunt.errors) >= 30
    leaks = [(hunt.found_in(text.encode()), text) for text in hunt.errors]
    assert [leak for leak in leaks if leak[0]] == []


@in_module
async def test_no_error_tells_of_the_inside(hunt: Hunt) -> None:
    inside = re.compile(
        r"Traceback|File \"|\.py\b|/work|/tmp|site-packages|redis://|redis\.|aiohttp|pydantic|"
        r"127\.0\.0\.1:|darkroom:job|line \d+, in",
        re.IGNORECASE,
    )
    assert [text for text in hunt.errors if inside.search(text)] == []


ALLOWED: dict[str, re.Pattern[str]] = {
    # where a canary may be in Redis: what was asked for is in the record of the job
    "prompt": re.compile(r"darkroom:job:job_\w+"),
    "hook token": re.compile(r"darkroom:(job:job|delivery:\w+?)_\w+"),
    "image token": re.compile(r"darkroom:job:job_\w+"),
    "digest": re.compile(r"darkroom:key:\w+"),
}


@in_module
async def test_redis_holds_them_where_they_belong_and_nowhere_else(hunt: Hunt) -> None:
    redis = Commands(connect(RedisSettings(url=hunt.here.redis_url)))
    places: dict[str, set[str]] = {}
    try:
        for key in await redis.execute("KEYS", "*"):
            value = await dump(redis, key)
            for name in hunt.found_in(key + b"\n" + value):
                places.setdefault(name, set()).add(key.decode())
    finally:
        await redis.close()
    strays = {
        name: [key for key in keys if name not in ALLOWED or not ALLOWED[name].fullmatch(key)]
        for name, keys in places.items()
    }
    assert {name: keys for name, keys in strays.items() if keys} == {}
    assert set(places) == set(ALLOWED)  # what is looked for can be found


async def dump(redis: Commands, key: bytes) -> bytes:
    """Return everything that is kept under a key."""
    kind = (await redis.execute("TYPE", key)).decode()
    command: tuple[str | bytes | int, ...] = {
        "string": ("GET", key),
        "hash": ("HGETALL", key),
        "list": ("LRANGE", key, 0, -1),
        "set": ("SMEMBERS", key),
        "zset": ("ZRANGE", key, 0, -1),
        "stream": ("XRANGE", key, "-", "+"),
    }[kind]
    return repr(await redis.execute(*command)).encode()


def test_nothing_is_left_in_files_but_objects_and_redis_own(hunt: Hunt) -> None:
    places: dict[str, set[str]] = {}
    for folder, _, names in os.walk(hunt.here.folder):
        for name in names:
            path = Path(folder, name)
            inside = str(path.relative_to(hunt.here.folder))
            for canary in hunt.found_in(inside.encode() + b"\n" + path.read_bytes()):
                places.setdefault(canary, set()).add(inside.partition("/")[0])
    assert places.pop("prompt") <= {"redis", "objects", "upstream.log"}
    assert places.pop("upload", set()) <= {"objects"}
    assert places.pop("digest") == {"redis"}
    assert places.pop("hook token") == {"redis"}
    assert places.pop("image token") == {"redis"}
    assert places == {}


def test_no_command_line_holds_one(hunt: Hunt) -> None:
    for program in (hunt.here.service, *hunt.here.workers, hunt.here.redis):
        assert hunt.found_in(Path(f"/proc/{program.pid}/cmdline").read_bytes()) == set()
