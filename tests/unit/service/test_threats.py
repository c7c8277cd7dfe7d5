"""Threats 62 to 137 by the table: pictures, addresses, transport, keys, races and leaks.

Each row is here, under its number, or in `tests/threats.py`, which says what else shows it; the
first test holds the two together, so that no row is missing and none is there twice. Whatever is
sent, the answer is a refusal with a name or an acceptance that is meant, never a fault, and the
same process then serves a request that is right.
"""

import ast
import asyncio
import base64
import gzip
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from aiohttp import ClientResponse

from storage.jobs import new_job_id
from tests import images
from tests.threats import FIRST, LAST, ROOT, SHOWN_BY
from tests.unit.service.conftest import Front
from tests.unit.service.doors import DOORS
from tests.unit.service.hostile import END, FORM, file, text
from tests.unit.service.pictures import png
from tests.unit.service.test_server import head, say


Attack = Callable[[Front], Awaitable[None]]
ATTACKS: Final[dict[int, tuple[str, Attack]]] = {}


def threat(number: int, name: str) -> Callable[[Attack], Attack]:
    """Put an attack into the table."""

    def put(attack: Attack) -> Attack:
        assert number not in ATTACKS
        ATTACKS[number] = name, attack
        return attack

    return put


async def served(front: Front) -> None:
    """Check that a request that is right is taken in, now as before."""
    answer = await front.post("/v1/jobs", {"prompt": "a lighthouse"})
    assert answer.status == 202, await answer.text()


async def refused(answer: ClientResponse, *statuses: int) -> dict[str, Any]:
    """Check that an answer is a refusal with a name, and return it."""
    body = await answer.read()
    assert answer.status in statuses, (answer.status, body[:300])
    error: dict[str, Any] = json.loads(body)["error"]
    assert error["code"]
    assert error["message"]
    assert len(body) < 1000
    return error


# -- pictures: the doors that are handed one -------------------------------------------------------

EDITS: Final = next(door for door in DOORS if door.name == "edits")


async def handed_in(front: Front, data: bytes) -> AsyncIterator[tuple[str, ClientResponse]]:
    """Hand a picture in at each kind of door: as base64, as a data URL, in a form, as a file."""
    plain = base64.b64encode(data).decode()
    yield "base64", await front.post("/v1/jobs", {"prompt": "x", "images": [plain]})
    url = f"data:image/png;base64,{plain}"
    assert EDITS.picture is not None
    ask = EDITS.asking(EDITS.picture, url)
    yield "data URL", await front.post(EDITS.path, ask, headers={"Prefer": "respond-async"})
    words = text("prompt", "x")
    for path, name, more in (("/v1/jobs", "image", words), ("/v1/files", "file", b"")):
        said = more or text("purpose", "vision")
        form = said + file(name, data) + END
        yield (
            path,
            await front.request(
                "POST", path, data=form, headers={"Content-Type": FORM, "Prefer": "respond-async"}
            ),
        )


async def no_door_takes(front: Front, samples: dict[str, bytes]) -> None:
    for name, data in samples.items():
        async for door, answer in handed_in(front, data):
            error = await refused(answer, 400, 413)
            assert "Traceback" not in error["message"], (name, door)
    assert await front.kept() == []
    assert front.spooled() == []


async def every_door_takes(front: Front, samples: dict[str, bytes]) -> None:
    for name, data in samples.items():
        async for door, answer in handed_in(front, data):
            # The data URL says png, and may be refused for not telling what it holds.
            fine = {202, 400} if door == "data URL" else {200, 201, 202}
            assert answer.status in fine, (name, door, await answer.text())


def some(samples: dict[str, bytes], *words: str) -> dict[str, bytes]:
    found = {name: data for name, data in samples.items() if any(word in name for word in words)}
    assert found, words
    return found


def pictures(number: int, name: str, *samples: dict[str, bytes]) -> None:
    async def attack(front: Front) -> None:
        await no_door_takes(front, images.joined(samples))

    threat(number, name)(attack)


_BOMBS: Final = images.bombs()
_RUINS: Final = images.ruins()
_STRANGERS: Final = images.strangers()
_JPEG: Final = images.picture("jpeg", progressive=True)
pictures(62, "png of 50000 x 50000", some(_BOMBS, "50000 x 50000"))
pictures(63, "png of 2^31-1 squared", some(_BOMBS, "2^31-1"))
pictures(64, "88 Mpx, just under what Pillow decodes", some(_BOMBS, "88 Mpx"))
pictures(65, "169 Mpx, at which Pillow only warns", some(_BOMBS, "169 Mpx"))
pictures(66, "a WebP of a few bytes", some(_BOMBS, "webp"))
pictures(67, "progressive JPEG of 81 Mpx", {"jpeg": images.resized_jpeg(_JPEG, 9000, 9000)})
pictures(68, "JPEG of 65500 squared", some(_BOMBS, "65500"))
pictures(69, "crowds of frames", images.crowds())
pictures(72, "ruins", _RUINS)
pictures(73, "other formats", _STRANGERS)
pictures(79, "1000000 x 1", some(_BOMBS, "1000000"))


@threat(74, "SVG with a script, a reference and an entity")
async def _svg(front: Front) -> None:
    opened = b'<svg xmlns="http://www.w3.org/2000/svg">'
    entity = b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + opened + b"&x;</svg>"
    reference = opened + b'<image href="http://169.254.169.254/"/></svg>'
    samples = some(_STRANGERS, "svg")
    await no_door_takes(front, {**samples, "entity": entity, "reference": reference})


@threat(75, "two things in one file")
async def _polyglots(front: Front) -> None:
    samples = {n: d for n, d in images.polyglots().items() if "gif" not in n}
    await every_door_takes(front, samples)
    for key in await front.kept():
        assert not key.endswith((".html", ".js", ".svg", ".zip")), key


@threat(76, "metadata: places, turns, scripts")
async def _metadata(front: Front) -> None:
    await every_door_takes(front, {str(turn): images.oriented(turn) for turn in (6, 8)})
    huge = images.with_chunk(images.picture(), b"tEXt", b"Comment\0<script>\r\n" + b"x" * 50_000)
    await every_door_takes(front, {"text": huge})


@threat(77, "CMYK, 16 bits, palettes, one bit")
async def _modes(front: Front) -> None:
    kinds = {mode: images.picture(mode=mode) for mode in ("L", "P", "1", "RGBA")}
    await every_door_takes(front, {**kinds, "deep": images.deep_png()})
    await every_door_takes(front, {"cmyk": images.picture("jpeg", mode="CMYK")})


@threat(80, "fifty pictures in one request")
async def _fifty(front: Front) -> None:
    plain = base64.b64encode(png()).decode()
    await refused(await front.post("/v1/jobs", {"prompt": "x", "images": [plain] * 50}), 400)
    form = text("prompt", "x") + file("image[]") * 50 + END
    for path in ("/v1/jobs", "/v1/images/edits"):
        answer = await front.request("POST", path, data=form, headers={"Content-Type": FORM})
        await refused(answer, 400, 413)
    assert await front.kept() == []


@threat(81, "the same picture from many at once")
async def _at_once(front: Front) -> None:
    ask = {"prompt": "x", "images": [base64.b64encode(images.heavy_png((256, 256))).decode()]}
    answers = await asyncio.gather(*(front.post("/v1/jobs", ask) for _ in range(100)))
    assert {answer.status for answer in answers} <= {202, 503}
    assert front.spooled() == []


# -- addresses -------------------------------------------------------------------------------------

SCHEMES: Final = (
    *("file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "ftp://example.com/a.png", "http://"),
    *("dict://127.0.0.1/", "jar:http://example.com!/a", "http:example.com", "javascript:alert(1)"),
    "//example.com",
)
LOOPBACK: Final = (
    *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "[::1]", "[::ffff:7f00:1]"),
    *("[::127.0.0.1]", "\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1", "017700000001"),
)
METADATA: Final = (
    *("169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
)
INSIDE: Final = (
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "224.0.0.1"),
    *("255.255.255.255", "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "[2001::1]", "[fec0::1]"),
    "[fe80::1%25lo]",
)
USERS: Final = (
    *("https://good@127.0.0.1/", "https://a@b@127.0.0.1/", "https://good\\@127.0.0.1/"),
    *("https://good:80+&@127.0.0.1:22/#+@good", "https://user:word@example.com/a.png"),
)
BROKEN: Final = (
    *("https://example.com/\r\nX: y", "https://exa\tmple.com/", "https://example.com\x00.evil/"),
    *("https://example.com/ a", "https://exam ple.com/"),
)
PORTS: Final = tuple(f"https://example.com:{port}/a.png" for port in (22, 25, 6379, 0, 65536, -1))
HOSTS: Final = (
    f"https://{'a' * 300}.com/",
    f"https://{'a' * 64}.com/",
    f"https://xn--{'a' * 70}.com/",
    "https://xn--\uffff.com/",
    "https://.com/",
)


async def no_door_dials(front: Front, urls: tuple[str, ...]) -> None:
    """Name an address wherever one can be named: nothing is kept and nothing is queued."""
    for url in urls:
        asks: list[tuple[str, Any]] = [
            ("/v1/jobs", {"prompt": "x", "images": [url]}),
            ("/v1/images/edits", {"prompt": "x", "images": [{"image_url": url}]}),
            ("/v1/jobs", {"prompt": "x", "webhook_url": url}),
            ("/v1/webhook-endpoints", {"url": url}),
        ]
        for path, ask in asks:
            error = await refused(await front.post(path, ask), 400)
            assert len(error["message"]) < 200
    assert await front.queued() == 0


def addresses(number: int, name: str, urls: tuple[str, ...]) -> None:
    async def attack(front: Front) -> None:
        await no_door_dials(front, urls)

    threat(number, name)(attack)


def at(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"https://{host}/a.png" for host in hosts)


addresses(83, "other schemes", SCHEMES)
addresses(84, "spellings of loopback", at(LOOPBACK))
addresses(85, "metadata services", at(METADATA))
addresses(86, "networks that are not public", at(INSIDE))
addresses(87, "users in front of the host", USERS)
addresses(88, "line ends, tabs and NUL", BROKEN)
addresses(89, "ports of other services", PORTS)
addresses(92, "hosts that are none", HOSTS)


@threat(94, "a webhook that leads to the door that makes jobs")
async def _to_ourselves(front: Front) -> None:
    said = {"type": "job.succeeded", "data": {"prompt": "x"}, "prompt": "x"}
    signed = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    await refused(await front.client.post("/v1/jobs", json=said, headers=signed), 401)
    assert await front.queued() == 0


@threat(95, "webhook URLs: a key in it, 8 kB, no TLS, a hundred of them")
async def _receivers(front: Front) -> None:
    url = "https://example.com/hook"
    for bad in (f"{url}?key={front.key}", f"{url}/{'x' * 8000}", "http://example.com/hook"):
        await refused(await front.post("/v1/webhook-endpoints", {"url": bad}), 400)
        await refused(await front.post("/v1/jobs", {"prompt": "x", "webhook_url": bad}), 400)
    answers = [await front.post("/v1/webhook-endpoints", {"url": url}) for _ in range(100)]
    assert {answer.status for answer in answers} == {201, 400}
    assert (await refused(answers[-1], 400))["code"] == "too_many_endpoints"


# -- transport -------------------------------------------------------------------------------------


@threat(97, "requests that two readers would read differently")
async def _smuggling(front: Front) -> None:
    ending = "Connection: close"
    for lines in (
        ["Content-Length: 5", "Transfer-Encoding: chunked", ending],
        ["Content-Length: 5", "Content-Length: 6", ending],
        ["Content-Length: -1", ending],
        ["Content-Length: +5", ending],
        ["Transfer-Encoding: xchunked", ending],
        ["X: a\x00b", ending],
        ["X : y", ending],
        ["Host: other", ending],
    ):
        heard = await say(front, head(front, *lines) + b"hello", seconds=1)
        assert heard[9:12] == b"400", (lines, heard[:80])
    for data in (
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        struct.pack(">I", 0) * 100 + b"\r\n\r\n",
    ):
        heard = await say(front, data, seconds=0.5)
        assert heard[9:12] in {b"", b"400"}, heard[:80]
    assert await front.queued() == 0


@threat(98, "long heads")
async def _heads(front: Front) -> None:
    for lines in (["X: " + "y" * 20_000], [f"X-{n}: {'y' * 100}" for n in range(300)]):
        heard = await say(front, head(front, *lines, "Connection: close"), seconds=1)
        assert heard[9:12] in {b"400", b"431"}, heard[:80]
    line = f"GET /v1/jobs/{'x' * 20_000} HTTP/1.1"
    heard = await say(front, head(front, "Connection: close", line=line), seconds=1)
    assert heard[9:12] in {b"400", b"414"}


@threat(101, "compressed bodies")
async def _compressed(front: Front) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    for encoding in ("gzip", "deflate", "br", "zstd", "x", "gzip, gzip"):
        for path in {door.path for door in DOORS}:
            headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
            answer = await front.request("POST", path, data=bomb, headers=headers)
            assert (await refused(answer, 415))["param"] == "Content-Encoding"


@threat(105, "methods")
async def _methods(front: Front) -> None:
    override = {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE"}
    job = await (await front.post("/v1/jobs", {"prompt": "x"})).json()
    shown = await front.get(f"/v1/jobs/{job['id']}", headers=override)
    assert (shown.status, (await shown.json())["id"]) == (200, job["id"])
    for method in ("TRACE", "PUT", "PATCH", "PROPFIND"):
        await refused(await front.request(method, "/v1/images/generations"), 405)
    assert (await front.request("HEAD", "/v1/images/generations")).status == 405
    for line in ("CONNECT example.com:443 HTTP/1.1", "get /livez HTTP/1.1"):
        heard = await say(front, head(front, "Connection: close", line=line), seconds=1)
        assert heard[9:12] in {b"400", b"404", b"405"}, heard[:80]


@threat(106, "made-up hosts and origins")
async def _hosts(working: Front) -> None:
    made_up = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil"}
    answer = await working.post(
        "/v1/jobs", {"prompt": "x"}, headers={**made_up, "Prefer": "wait=2"}
    )
    assert answer.status == 200
    url = (await answer.json())["images"][0]["url"]
    assert urlsplit(url).netloc == "front.test"
    assert not [name for name, value in answer.headers.items() if "evil" in value]


@threat(108, "the same parameter twice")
async def _twice(front: Front) -> None:
    for path in ("/v1/jobs?limit=1&limit=2", "/v1/usage?from=2026-01-01&from=2026-01-02"):
        await refused(await front.get(path), 400)
    job = await (await front.post("/v1/jobs", {"prompt": "x"})).json()
    await refused(await front.get(f"/v1/jobs/{job['id']}?wait=0&wait=1"), 400)


@threat(109, "odd ranges and odd wishes")
async def _ranges(working: Front) -> None:
    answer = await working.post("/v1/jobs", {"prompt": "x"}, headers={"Prefer": "wait=2"})
    path = f"/v1/jobs/{(await answer.json())['id']}/images/0?proxy=1"
    for said in (
        *("bytes=9-1", "bytes=0-0,5-6", "lines=1-2", "bytes=-0", "bytes=99999999999-", "bytes=a-b"),
        *("bytes=0-99999999999999999999", "bytes=" + "0-1," * 1000, "bytes=--1", "\u0661"),
    ):
        part = await working.get(path, headers={"Range": said.encode().decode("latin-1")})
        assert part.status in {200, 206, 400, 416}, said
        assert len(await part.read()) < 100_000
    for wish in ("text/html", "image/svg+xml;q=1", "*/*;q=0", "x" * 5000):
        whole = await working.get(path, headers={"Accept": wish})
        assert whole.headers["Content-Type"] == "image/png"
        assert whole.headers["X-Content-Type-Options"] == "nosniff"


# -- keys and tenants ------------------------------------------------------------------------------


@threat(110, "keys where no key is read")
async def _keys(front: Front) -> None:
    client, key = front.client, front.key
    for headers in (
        *({}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": key}),
        *({"Authorization": f"Basic {key}"}, {"X-Api-Key": key}, {"Cookie": f"key={key}"}),
        {"Authorization": "Bearer dk_live_\u00e9"},
        {"Authorization": f"Bearer {key}, Bearer {key}"},
    ):
        await refused(await client.get("/v1/jobs", headers=headers), 401)
    for query in (f"key={key}", f"access_token={key}", f"api_key={key}"):
        await refused(await client.get(f"/v1/jobs?{query}"), 401)
    large = {"Authorization": f"Bearer {'k' * 1_000_000}"}
    with suppress(aiohttp.ClientError):  # cut off while it was still sent
        await refused(await client.get("/v1/jobs", headers=large), 400, 401)


@threat(115, "ids that follow one another")
async def _ids(front: Front) -> None:
    made = [await (await front.post("/v1/jobs", {"prompt": "x"})).json() for _ in range(5)]
    ids = {job["id"] for job in made} | {new_job_id() for _ in range(1000)}
    assert len(ids) == 1005
    digits = [int(job_id.removeprefix("job_"), 16) for job_id in ids]
    assert all(len(job_id) == len("job_") + 32 for job_id in ids)
    ones = sum(digit.bit_count() for digit in digits) / len(digits)
    assert 62 < ones < 66  # of 128 bits, half: none is fixed
    for job_id in list(ids)[5:10]:
        if job_id not in {job["id"] for job in made}:
            await refused(await front.get(f"/v1/jobs/{job_id}"), 404)


@threat(117, "names that would become keys of objects")
async def _names(front: Front) -> None:
    for name in ("../../t/bob/x.png", "a/b/c.png", "..\\x", "t/bob/job/0.png", "\u202e.png"):
        form = text("prompt", "x") + text("metadata", json.dumps({"name": name}))
        form += file("image", more=f"\"; filename*=UTF-8''{quote(name)}; x=\"") + END
        answer = await front.request("POST", "/v1/jobs", data=form, headers={"Content-Type": FORM})
        job = await answer.json()
        assert answer.status == 202, job
        assert f"t/alice/{job['id']}/in/0.png" in await front.kept()
    assert not [key for key in await front.kept() if not key.startswith("t/alice/job_")]


# -- races -----------------------------------------------------------------------------------------


@threat(127, "cancelling while a job ends")
async def _cancelling(front: Front) -> None:
    async def race(after: float) -> None:
        job = await (await front.post("/v1/jobs", {"prompt": "x"})).json()
        kept = await front.context.jobs.find(job["id"])
        assert kept is not None

        async def cancel() -> int:
            await asyncio.sleep(after)
            return (await front.post(f"/v1/jobs/{job['id']}/cancel")).status

        status, _, again = await asyncio.gather(cancel(), front.worker.finish(kept), cancel())
        assert {status, again} <= {200, 409}
        ended = await (await front.get(f"/v1/jobs/{job['id']}")).json()
        assert ended["status"] in {"cancelled", "succeeded"}
        later = await (await front.get(f"/v1/jobs/{job['id']}")).json()
        assert (later["status"], later["finished_at"]) == (ended["status"], ended["finished_at"])

    for number in range(40):
        await race(number % 10 / 2000)


@threat(128, "deleting while something is uploaded")
async def _deleting(front: Front) -> None:
    job = await (await front.post("/v1/jobs", {"prompt": "x"})).json()
    await refused(await front.request("DELETE", f"/v1/jobs/{job['id']}"), 409)
    for _ in range(20):
        form = aiohttp.FormData({"purpose": "vision"})
        form.add_field("file", png(), filename="a.png", content_type="image/png")
        made = await (await front.request("POST", "/v1/files", data=form)).json()
        path = f"/v1/files/{made['id']}"
        ask = {"prompt": "x", "images": [{"file_id": made["id"]}]}
        used, gone = await asyncio.gather(
            front.post("/v1/jobs", ask), front.request("DELETE", path)
        )
        assert used.status in {202, 400, 404}
        assert gone.status in {200, 204}
        await refused(await front.get(path), 404)


@threat(130, "very many who wait")
async def _waiting(front: Front) -> None:
    job = await (await front.post("/v1/jobs", {"prompt": "x"})).json()
    path = f"/v1/jobs/{job['id']}?wait=3"
    waiting = [asyncio.create_task(front.get(path)) for _ in range(90)]
    await asyncio.sleep(0.2)
    began = asyncio.get_running_loop().time()
    await served(front)
    assert asyncio.get_running_loop().time() - began < 1
    kept = await front.context.jobs.find(job["id"])
    assert kept is not None
    await front.worker.finish(kept)
    answers = await asyncio.gather(*waiting)
    assert {(await answer.json())["status"] for answer in answers} == {"succeeded"}


# -- leaks -----------------------------------------------------------------------------------------


@threat(136, "what is shown without a key")
async def _open(front: Front) -> None:
    assert (await front.post("/v1/jobs", {"prompt": "a secret prompt"})).status == 202
    for path in ("/metrics", "/openapi.json", "/docs", "/livez", "/readyz"):
        answer = await front.client.get(path)
        told = await answer.text() + str(answer.headers)
        for secret in (front.key, "alice", "a secret prompt", "aiohttp/", "Python/", "redis://"):
            assert secret not in told, (path, secret)
    for path in ("/debug", "/admin", "/.env", "/config", "/server-status", "/v1/debug"):
        await refused(await front.client.get(path), 404)


# -- the table -------------------------------------------------------------------------------------


def test_every_row_is_shown_in_one_place() -> None:
    shown = sorted([*ATTACKS, *SHOWN_BY])
    assert shown == list(range(FIRST, LAST + 1))


@pytest.mark.parametrize("number", sorted(SHOWN_BY), ids=lambda number: f"H{number}")
def test_what_a_row_is_shown_by_is_there(number: int) -> None:
    for node in SHOWN_BY[number]:
        path, _, name = node.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        names = {
            found.name
            for found in ast.walk(tree)
            if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in names, node


WITH_A_WORKER: Final = (106, 109)


@pytest.mark.parametrize(
    "number",
    sorted(number for number in ATTACKS if number not in WITH_A_WORKER),
    ids=lambda number: f"H{number} {ATTACKS[number][0]}",
)
async def test_a_threat_is_met_and_the_next_request_is_served(front: Front, number: int) -> None:
    await ATTACKS[number][1](front)
    await served(front)


@pytest.mark.parametrize(
    "number", WITH_A_WORKER, ids=lambda number: f"H{number} {ATTACKS[number][0]}"
)
async def test_a_threat_to_what_was_made_is_met(working: Front, number: int) -> None:
    await ATTACKS[number][1](working)
    await served(working)
