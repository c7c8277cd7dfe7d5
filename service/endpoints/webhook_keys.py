"""Keys that sign webhooks: the secret for receivers that jobs name, and public keys for everybody.

A receiver must trust no key but its own: any tenant may have a message signed and sent to any
address, by a key of its own. So public keys are found by keyring, and all of them at once only by
the tenant that they belong to.
"""

import base64
from dataclasses import replace
from typing import Any, Final

import orjson
from aiohttp import web

from service.asked import asked
from service.context import Call, Context
from service.endpoints.webhook_endpoints import jwks_url
from service.wire.webhooks import RotationRequest
from storage.errors import Conflict, Missing
from storage.keyring import Keyring, OwnKeyring
from storage.tenant import Scope
from storage.vault import Secrets
from storage.webhook_document import keyring_document


_TRIES: Final = 10
_REMEMBERED: Final = "public, max-age=300"


async def secret(call: Call) -> web.StreamResponse:
    """Show the secret that signs deliveries to a job's own `webhook_url`."""
    own = await _own(call)
    return _json(_document(call, own.keyring, call.context.vault.open(own.keyring.current)))


async def rotate(call: Call) -> web.StreamResponse:
    """Replace the secret that signs deliveries to a job's own `webhook_url`."""
    ask = await asked(call, RotationRequest)
    key, made = call.context.vault.new_key(call.now)
    for _ in range(_TRIES):
        own = await _own(call)
        keyring = own.keyring.rotated(key, call.now, overlap=ask.overlap)
        written = await call.context.endpoints.swap_own(own, replace(own, keyring=keyring))
        if written is not None:
            return _json(_document(call, written.keyring, made))
    raise Conflict("The secret is changing too fast; try again.", code="busy")


async def jwks(request: web.Request, context: Context) -> web.StreamResponse:
    """Show the public keys of one keyring to everybody, or with an API key all of its tenant."""
    now = context.clock()
    if (keyring_id := request.query.get("keyring")) is not None:
        keys = await context.endpoints.public_keys(keyring_id[:100])
        if keys is None:
            raise Missing("There is no such keyring.", param="keyring", code="keyring_not_found")
    else:
        _, tenant = await context.doorkeeper.admit(request.headers, Scope.READ, now)
        keys = await _keys_of(context, tenant.id)
    live = [key for key in keys if key["expires_at"] is None or now < key["expires_at"]]
    answer = _json({"keys": [_jwk(key) for key in live]})
    if keyring_id is not None:
        answer.headers["Cache-Control"] = _REMEMBERED
    return answer


async def _keys_of(context: Context, tenant: str) -> list[dict[str, Any]]:
    own = await context.endpoints.own(tenant)
    keyrings = [endpoint.keyring for endpoint in await context.endpoints.all(tenant)]
    if own is not None:
        keyrings.append(own.keyring)
    return [
        {"id": key.id, "x": key.public, "expires_at": key.expires_at}
        for keyring in keyrings
        for key in keyring.keys
    ]


async def _own(call: Call) -> OwnKeyring:
    vault = call.context.vault
    return await call.context.endpoints.own_or(
        call.tenant.id, lambda: vault.new_keyring(call.now)[0]
    )


def _document(call: Call, keyring: Keyring, opened: Secrets) -> dict[str, Any]:
    return {
        "secret": opened.text,
        **keyring_document(keyring, call.now),
        "jwks_url": jwks_url(call, keyring),
    }


def _jwk(key: dict[str, Any]) -> dict[str, str]:
    """Return a key as RFC 8037 writes it."""
    raw = base64.b64decode(key["x"])
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "kid": key["id"],
        "alg": "EdDSA",
        "use": "sig",
    }


def _json(document: Any) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
