"""The Standard Webhooks libraries for Python and Node, unmodified: what they take for genuine.

Messages come from real processes, before, during and after a rotation, to an endpoint and to the
`webhook_url` of a job. What is tampered with is made of them.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from tests.contract.conftest import HERE
from tests.processes import Installation


pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True)
class Message:
    """One message as it came over the wire, or as somebody changed it."""

    headers: dict[str, str]
    body: bytes

    def changed(self, *, body: bytes | None = None, **headers: str) -> "Message":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Message({**self.headers, **named}, self.body if body is None else body)


@dataclass(frozen=True)
class Keys:
    """What a receiver knows at one time: its secret and its public keys."""

    secret: str
    public: list[dict[str, str]]


@dataclass(frozen=True)
class Case:
    """A message, who is asked about it, and whether it is to be taken."""

    claim: str
    message: Message
    keys: Keys
    genuine: bool

    def document(self) -> dict[str, Any]:
        return {
            "secret": self.keys.secret,
            "keys": self.keys.public,
            "headers": self.message.headers,
            "body": base64.b64encode(self.message.body).decode(),
        }


@dataclass
class Ear:
    """A receiver that verifies nothing and keeps everything."""

    url: str = ""
    messages: dict[str, list[Message]] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        headers = {
            name.lower(): value
            for name, value in request.headers.items()
            if name.lower().startswith("webhook-")
        }
        heard = self.messages.setdefault(request.path, [])
        heard.append(Message(headers, await request.read()))
        return web.Response(status=204)


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    ear, app = Ear(), web.Application()
    app.router.add_post("/{who}", ear.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield ear
    finally:
        await runner.cleanup()


class Owner:
    """A tenant with an endpoint, who rotates its secrets and has jobs made."""

    def __init__(self, client: aiohttp.ClientSession, ear: Ear) -> None:
        self._client = client
        self._ear = ear
        self._endpoint = ""

    async def register(self) -> Keys:
        asked = {"url": self._ear.url + "/endpoint", "events": ["job.*"]}
        shown = await self._post("/v1/webhook-endpoints", asked)
        self._endpoint = f"/v1/webhook-endpoints/{shown['id']}"
        return await self._known(shown)

    async def forget(self) -> None:
        async with self._client.delete(self._endpoint) as answer:
            assert answer.status == 200

    async def own(self) -> Keys:
        async with self._client.get("/v1/webhook-secret") as answer:
            return await self._known(await answer.json())

    async def rotate(self, **fields: float) -> dict[str, Keys]:
        return {
            "/endpoint": await self._known(await self._post(self._endpoint + "/rotate", fields)),
            "/own": await self._known(await self._post("/v1/webhook-secret/rotate", fields)),
        }

    async def job(self) -> dict[str, list[Message]]:
        """Have a picture made, and return what was heard of it by whom."""
        self._ear.messages.clear()
        asked = {"prompt": "fox 🦊", "size": "64x64", "webhook_events": ["*"]}
        await self._post("/v1/jobs", {**asked, "webhook_url": self._ear.url + "/own"})
        async with asyncio.timeout(40):
            while sum(map(len, self._ear.messages.values())) < 8:
                await asyncio.sleep(0.05)
        return {path: list(messages) for path, messages in self._ear.messages.items()}

    async def _post(self, path: str, asked: Any) -> Any:
        async with self._client.post(path, json=asked) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def _known(self, shown: Any) -> Keys:
        async with aiohttp.ClientSession() as stranger, stranger.get(shown["jwks_url"]) as answer:
            return Keys(shown["secret"], (await answer.json())["keys"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cases(darkroom: Installation) -> list[Case]:
    async with darkroom.client() as client, listening() as ear:
        owner = Owner(client, ear)
        old = {"/endpoint": await owner.register(), "/own": await owner.own()}
        before = await owner.job()
        new = await owner.rotate()
        during = await owner.job()
        last = await owner.rotate(overlap=0)
        after = await owner.job()
        await owner.forget()
    found: list[Case] = []
    for who in ("/endpoint", "/own"):
        spans = (before[who], during[who], after[who])
        assert [len(span) for span in spans] == [4, 4, 4], "queued, started, ready, succeeded"
        found += expected(spans, (old[who], new[who], last[who]))
        for message in before[who]:
            found += tampered(message, old[who])
    return found


def expected(spans: tuple[list[Message], ...], known: tuple[Keys, ...]) -> list[Case]:
    """Return who is to take what: of two spans, each knows the messages of its own."""
    before, during, after = spans
    old, new, last = known
    rows = [
        *(("before: the secret", before, old, True), ("before: a later one", before, new, False)),
        *(("during: the old one", during, old, True), ("during: the new one", during, new, True)),
        *(("after: the old one", after, old, False), ("after: the one between", after, new, False)),
        ("after: the last one", after, last, True),
    ]
    return [
        Case(claim, message, Keys(keys.secret, fresh(keys, known)), genuine)
        for claim, messages, keys, genuine in rows
        for message in messages
    ]


def fresh(keys: Keys, known: tuple[Keys, ...]) -> list[dict[str, str]]:
    """Return the one public key that came with a secret: those of a rotation show old ones, too."""
    earlier = known[: known.index(keys)]
    seen = {key["kid"] for one in earlier for key in one.public}
    return [key for key in keys.public if key["kid"] not in seen]


def tampered(message: Message, keys: Keys) -> list[Case]:
    stamp = int(message.headers["webhook-timestamp"])
    signatures = message.headers["webhook-signature"].split(" ")
    spoilt = " ".join(f"{one[:8]}{'A' if one[8] != 'A' else 'B'}{one[9:]}" for one in signatures)
    changes = {
        "another word": message.changed(body=message.body.replace(b"job.", b"jab.", 1)),
        "a space more": message.changed(body=message.body + b" "),
        "nothing of it": message.changed(body=b""),
        "another id": message.changed(webhook_id=message.headers["webhook-id"] + "0"),
        "a second later": message.changed(webhook_timestamp=str(stamp + 1)),
        "ten minutes ago": message.changed(webhook_timestamp=str(stamp - 600)),
        "in ten minutes": message.changed(webhook_timestamp=str(stamp + 600)),
        "other signatures": message.changed(webhook_signature=spoilt),
        "another's signatures": message.changed(webhook_signature="v1,AAAA v1a,AAAA"),
    }
    return [Case(claim, changed, keys, genuine=False) for claim, changed in changes.items()]


def is_taken(case: Case) -> bool:
    try:
        Webhook(case.keys.secret).verify(case.message.body, case.message.headers)
    except (WebhookVerificationError, ValueError):
        return False
    return True


def is_signed(case: Case) -> bool:
    headers = case.message.headers
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + case.message.body
    for jwk in case.keys.public:
        raw = base64.urlsafe_b64decode(jwk["x"] + "=")
        for one in headers["webhook-signature"].split(" "):
            if one.startswith("v1a,"):
                try:
                    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(one[4:]), text)
                except InvalidSignature:
                    continue
                return True
    return False


def wrong(cases: list[Case], answers: list[tuple[bool, bool]]) -> list[str]:
    return [
        case.claim
        for case, answer in zip(cases, answers, strict=True)
        if answer != (case.genuine, case.genuine)
    ]


async def test_python_takes_what_is_genuine_and_nothing_else(cases: list[Case]) -> None:
    assert sum(case.genuine for case in cases) == 32
    assert wrong(cases, [(is_taken(case), is_signed(case)) for case in cases]) == []


async def test_python_takes_nothing_that_is_old(cases: list[Case]) -> None:
    secret = cases[0].keys.secret
    for offset, genuine in ((-290, True), (-310, False), (310, False)):
        at = datetime.fromtimestamp(time.time() + offset, UTC)
        signature = Webhook(secret).sign("msg_1", at, "{}")
        stamp = str(int(at.timestamp()))
        headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp}
        message = Message({**headers, "webhook-signature": signature}, b"{}")
        assert is_taken(Case("its time", message, Keys(secret, []), genuine)) is genuine


async def test_node_takes_what_is_genuine_and_nothing_else(
    cases: list[Case], modules: Path, tmp_path: Path
) -> None:
    file = tmp_path / "messages.json"
    file.write_text(json.dumps([case.document() for case in cases]))
    node = await asyncio.create_subprocess_exec(
        *("node", HERE / "standardwebhooks.mjs", file, modules),
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(node.communicate(), 60)
    assert node.returncode == 0, out.decode()[-2000:]
    assert wrong(cases, [(taken, signed) for taken, signed in json.loads(out)]) == []
