"""The webhook catcher: what it believes, what it shows, and what it keeps to itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import orjson
import pytest
from aiohttp.test_utils import TestServer

from deploy.catcher.app import LARGEST, make_app
from deploy.catcher.inbox import KEPT
from deploy.catcher.keyholder import SELDOM, Keyholder
from deploy.catcher.verdict import MOST
from tests.desk import API_KEY, BODY, Client, Darkroom, Desk, a_key
from tests.doubles import Clock
from worker import signing


Start: TypeAlias = Callable[..., Awaitable[Desk]]


@pytest.fixture
def start(
    aiohttp_client: Callable[..., Awaitable[Client]],
    aiohttp_server: Callable[..., Awaitable[TestServer]],
) -> Start:
    async def begin(*, key: str = API_KEY, patience: float = 5.0) -> Desk:
        darkroom, clock = Darkroom(), Clock(0.0)
        url = str((await aiohttp_server(darkroom.app())).make_url("/")).rstrip("/")
        keyholder = Keyholder(url, key, clock=clock)
        client = await aiohttp_client(make_app(url, keyholder, patience=patience))
        return Desk(darkroom, client, clock)

    return begin


@pytest.fixture
async def desk(start: Start) -> Desk:
    return await start()


# -- what it believes ------------------------------------------------------------------------------


async def test_a_message_of_the_tenant_is_verified_both_ways(desk: Desk) -> None:
    assert await desk.post() == 204
    message = await desk.last()
    assert (message["status"], message["type"], message["about"]) == (
        *("verified", "job.succeeded"),
        "job_1",
    )
    signatures = message["signatures"]
    assert (signatures["v1"], signatures["v1a"]) == ("matches", "matches")
    assert signatures["key"] == desk.darkroom.own[0].id


async def test_a_message_for_an_endpoint_is_verified_by_its_public_key(desk: Desk) -> None:
    endpoint = a_key()
    desk.darkroom.others.append(endpoint)
    assert await desk.post(endpoint[1]) == 204
    signatures = (await desk.last())["signatures"]
    assert (signatures["v1"], signatures["v1a"]) == ("differs", "matches")
    assert signatures["key"] == endpoint[0].id


@pytest.mark.parametrize(
    "change",
    [
        {"sent": BODY.replace(b"succeeded", b"failed")},
        {"sent": BODY + b" "},
        {"sent": b""},
        {"sent": b"\xff\xfe"},
        {"webhook_id": "msg_2"},
        {"webhook_id": ""},
        {"webhook_timestamp": str(int(time.time()) - 200)},
        {"webhook_timestamp": "soon"},
        {"webhook_timestamp": "nan"},
        {"webhook_timestamp": ""},
        {"webhook_signature": ""},
        {"webhook_signature": "v1"},
        {"webhook_signature": "v1,AAAA v1a,AAAA v2,AAAA"},
        {"webhook_signature": "v1,~~~ v1a,~~~ , ,,"},
        {"webhook_signature": "v1a," + "A" * 86 + "=="},
        {"age": 310},
        {"age": -310},
    ],
)
async def test_what_was_tampered_with_or_is_old_is_refused_and_shown_as_such(
    desk: Desk, change: dict[str, Any]
) -> None:
    assert await desk.post(**change) == 401
    message = await desk.last()
    assert (message["status"], message["answered"]) == ("refused", 401)
    assert message["reason"]
    assert (message["type"], message["about"]) == (None, None), "it is not taken at its word"


async def test_of_very_many_signatures_only_the_first_are_looked_at(desk: Desk) -> None:
    signed = signing.headers("msg_1", BODY, [desk.darkroom.own[1]], time.time())
    mine, stamp = signed["webhook-signature"].split(" ")[-1], signed["webhook-timestamp"]
    for others, status in ((MOST - 1, 204), (MOST, 401)):
        padded = " ".join(["v1a," + "A" * 86 + "=="] * others + [mine])
        sent = await desk.post(webhook_timestamp=stamp, webhook_signature=padded)
        assert sent == status


async def test_a_message_of_another_tenant_is_refused(desk: Desk) -> None:
    assert await desk.post(a_key()[1]) == 401


async def test_a_rotation_is_learnt_without_a_restart(desk: Desk) -> None:
    assert await desk.post() == 204
    desk.darkroom.own = a_key()
    desk.clock.advance(SELDOM)
    assert await desk.post() == 204


async def test_rubbish_makes_nobody_read_the_keys_all_the_time(desk: Desk) -> None:
    for _ in range(20):
        assert await desk.post(a_key()[1]) == 401
    assert desk.darkroom.readings == 1
    desk.clock.advance(SELDOM)
    for _ in range(20):
        assert await desk.post(a_key()[1]) == 401
    assert desk.darkroom.readings == 2


async def test_while_the_keys_cannot_be_read_nothing_is_believed_or_refused(desk: Desk) -> None:
    desk.darkroom.status = 503
    for reason in ("Darkroom answered 503 to /v1/webhook-secret.", "The keys could not be read a"):
        assert await desk.post() == 503
        message = await desk.last()
        assert (message["status"], message["signatures"]) == ("unchecked", None)
        assert message["reason"].startswith(reason)
    desk.darkroom.status = 200
    desk.clock.advance(SELDOM)
    assert await desk.post() == 204


async def test_a_key_that_is_refused_is_said_and_not_shown(start: Start) -> None:
    desk = await start(key="dk_live_2_another-key")
    assert await desk.post() == 503
    text = str(await desk.shown())
    assert "Darkroom answered 401" in text
    assert "another-key" not in text


async def test_a_darkroom_that_is_not_there_is_said(
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> None:
    url = "http://127.0.0.1:9"
    client = await aiohttp_client(make_app(url, Keyholder(url, API_KEY)))
    desk = Desk(Darkroom(), client, Clock(0.0))
    assert await desk.post() == 503
    assert (await desk.last())["reason"] == "Darkroom does not answer."


# -- what it answers and shows ---------------------------------------------------------------------


async def test_it_answers_as_it_is_asked_and_counts_the_tries_of_a_message(desk: Desk) -> None:
    assert await desk.post(path="/hook/500") == 500
    assert await desk.post(path="/hook/410", message_id="msg_2") == 410
    assert await desk.post() == 204
    told = [(one["headers"]["webhook-id"], one["try"]) for one in (await desk.shown())["messages"]]
    assert told == [("msg_1", 1), ("msg_2", 1), ("msg_1", 2)]
    assert await desk.post(a_key()[1], path="/hook/200") == 401, "only to whom it believes"


@pytest.mark.parametrize("path", ["/hook/100", "/hook/600", "/hook/20", "/", "/messages"])
async def test_there_is_no_other_door_for_messages(desk: Desk, path: str) -> None:
    assert await desk.post(path=path) in {404, 405}
    assert (await desk.shown())["arrived"] == 0


async def test_only_what_is_new_is_told(desk: Desk) -> None:
    for number in range(3):
        await desk.post(message_id=f"msg_{number}")
    assert [one["number"] for one in (await desk.shown(2))["messages"]] == [3]
    assert (await desk.shown(3))["messages"] == []
    for after in ("-1", "x", "٣", "9" * 16):
        assert (await desk.client.get("/messages", params={"after": after})).status == 400


async def test_the_last_hundred_are_kept_and_all_are_counted(desk: Desk) -> None:
    for number in range(KEPT + 5):
        await desk.post(message_id=f"msg_{number}")
    shown = await desk.shown()
    assert (shown["arrived"], len(shown["messages"])) == (KEPT + 5, KEPT)
    assert shown["messages"][0]["headers"]["webhook-id"] == "msg_5"


async def test_what_is_too_large_is_not_kept(desk: Desk) -> None:
    assert await desk.post(body=b"x" * (LARGEST + 1)) == 413
    assert (await desk.shown())["arrived"] == 0


async def test_a_message_that_does_not_come_to_its_end_is_not_waited_for(start: Start) -> None:
    desk = await start(patience=0.05)
    never = asyncio.Event()

    async def drip() -> Any:
        yield b"{"
        await never.wait()

    async with asyncio.timeout(5):
        answer = await desk.client.post("/hook", data=drip())
        assert answer.status == 408
    assert (await desk.shown())["arrived"] == 0


async def test_no_secret_is_shown(desk: Desk) -> None:
    await desk.post(authorization="Bearer of-somebody", cookie="a=somebody")
    paths = ("/", "/page.js", "/page.css", "/messages")
    text = "".join([await (await desk.client.get(path)).text() for path in paths])
    secret = desk.darkroom.own[1].text
    for hidden in (secret, secret.removeprefix("whsec_"), API_KEY, "somebody"):
        assert hidden not in text


async def test_a_body_is_shown_as_it_came_unless_it_is_believed(desk: Desk) -> None:
    await desk.post()
    assert (await desk.last())["body"] == orjson.dumps(
        orjson.loads(BODY), option=orjson.OPT_INDENT_2
    ).decode()
    for body in (b"<script>alert(1)</script>", b"[" * 30_000, b"\xff", b"9" * 5000):
        await desk.post(a_key()[1], body=b"{}", sent=body)
        assert (await desk.last())["body"] == body.decode(errors="replace")


@pytest.mark.parametrize("body", [b"[" * 900 + b"]" * 900, b"7", b'"x"', b"null", b'{"data":[]}'])
async def test_a_body_of_an_odd_shape_does_no_harm(desk: Desk, body: bytes) -> None:
    assert await desk.post(body=body) == 204
    assert (await desk.last())["about"] is None


# -- its page --------------------------------------------------------------------------------------


async def test_the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(
    desk: Desk,
) -> None:
    for path in ("/", "/page.js", "/page.css", "/messages", "/nowhere"):
        answer = await desk.client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil", "["])
async def test_it_answers_nobody_who_calls_it_by_another_name(desk: Desk, host: str) -> None:
    for path in ("/", "/messages"):
        assert (await desk.client.get(path, headers={"Host": host})).status == 421
    assert await desk.post(host=host) == 421
    assert (await desk.shown())["arrived"] == 0


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8401"])
async def test_it_answers_to_the_names_of_this_machine(desk: Desk, host: str) -> None:
    assert (await desk.client.get("/messages", headers={"Host": host})).status == 200
