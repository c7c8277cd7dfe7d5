"""A webhook catcher for tests, with a stand-in for the Darkroom whose keys it reads."""

import base64
import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient

from storage.keyring import SigningKey
from storage.vault import Secrets, Vault
from tests.doubles import Clock
from worker import signing


API_KEY = "dk_live_1_a-key-of-the-tenant"
BODY = orjson.dumps({"type": "job.succeeded", "data": {"id": "job_1", "object": "job"}})
VAULT = Vault(b"a secret of thirty-two letters or more")

Client: TypeAlias = TestClient[web.Request, web.Application]
Pair: TypeAlias = tuple[SigningKey, Secrets]


def a_key() -> Pair:
    return VAULT.new_key(time.time())


@dataclass
class Darkroom:
    """Stands in for the service: it shows a tenant's secret and public keys to who has the key."""

    own: Pair = field(default_factory=a_key)
    others: list[Pair] = field(default_factory=list)
    status: int = 200
    readings: int = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/webhook-secret", self.secret)
        app.router.add_get("/.well-known/jwks.json", self.jwks)
        return app

    async def secret(self, request: web.Request) -> web.Response:
        self.readings += 1
        status = self.status if request.headers["Authorization"] == f"Bearer {API_KEY}" else 401
        return web.json_response({"secret": self.own[1].text}, status=status)

    async def jwks(self, request: web.Request) -> web.Response:
        keys = [key for key, _ in (self.own, *self.others)]
        raw = [base64.b64decode(key.public) for key in keys]
        shown = [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in raw]
        return web.json_response(
            {"keys": [{"kid": key.id, "x": x} for key, x in zip(keys, shown, strict=True)]}
        )


@dataclass
class Desk:
    """A catcher with the Darkroom that it knows."""

    darkroom: Darkroom
    client: Client
    clock: Clock

    async def post(
        self,
        signer: Secrets | None = None,
        *,
        body: bytes = BODY,
        sent: bytes | None = None,
        message_id: str = "msg_1",
        age: float = 0.0,
        path: str = "/hook",
        **headers: str,
    ) -> int:
        """Sign `body`, `age` seconds ago, and send `sent` in its place, or the same.

        Returns the status.
        """
        signed = signing.headers(
            message_id, body, [signer or self.darkroom.own[1]], time.time() - age
        )
        replaced = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.post(
            path, data=body if sent is None else sent, headers={**signed, **replaced}
        )
        return answer.status

    async def shown(self, after: int = 0) -> Any:
        answer = await self.client.get(f"/messages?after={after}")
        assert answer.status == 200
        return await answer.json()

    async def last(self) -> Any:
        return (await self.shown())["messages"][-1]
