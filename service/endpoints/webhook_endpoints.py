"""`/v1/webhook-endpoints`: the receivers of a tenant.

A secret is shown when it is made and never again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson
from aiohttp import web

from service.asked import asked
from service.context import Call
from service.query import query_of
from service.receiver_url import receiver_url
from service.wire.webhooks import EndpointChange, EndpointRequest, Nothing, RotationRequest
from storage.delivery import message_to
from storage.endpoint import DisabledReason, WebhookEndpoint
from storage.endpoints import new_endpoint_id
from storage.errors import Conflict, Missing
from storage.event import TEST
from storage.keyring import Keyring
from storage.outbox import new_delivery_id
from storage.vault import Secrets
from storage.webhook_document import delivery_document, endpoint_document


_TRIES: Final = 10


async def create(call: Call) -> web.StreamResponse:
    """Register an endpoint, and show its secret this once."""
    ask = await asked(call, EndpointRequest)
    url = receiver_url(ask.url, param="url", allowance=call.context.allowance)
    keyring, made = call.context.vault.new_keyring(call.now)
    endpoint = await call.context.endpoints.add(
        WebhookEndpoint(
            id=new_endpoint_id(),
            tenant=call.tenant.id,
            url=url,
            keyring=keyring,
            created_at=call.now,
            events=ask.events,
            description=ask.description,
            include_prompt=ask.include_prompt,
        )
    )
    document = await _document(call, endpoint, made)
    headers = {"Location": f"/v1/webhook-endpoints/{endpoint.id}"}
    return _json(document, status=201, headers=headers)


async def list_(call: Call) -> web.StreamResponse:
    """List the tenant's endpoints, the oldest first; there are at most fifty."""
    query_of(call, set())
    endpoints = await call.context.endpoints.all(call.tenant.id)
    data = await asyncio.gather(*(_document(call, endpoint) for endpoint in endpoints))
    return _json({"object": "list", "data": data, "has_more": False, "next": None})


async def show(call: Call) -> web.StreamResponse:
    """Show one endpoint."""
    return _json(await _document(call, await endpoint_of(call)))


async def update(call: Call) -> web.StreamResponse:
    """Change an endpoint; what is not named stays."""
    ask = await asked(call, EndpointChange)
    changes: dict[str, Any] = {name: getattr(ask, name) for name in ask.model_fields_set}
    if ask.url is not None:
        changes["url"] = receiver_url(ask.url, param="url", allowance=call.context.allowance)
    changed = await _changed(call, lambda endpoint: replace(endpoint, **changes))
    return _json(await _document(call, changed))


async def remove(call: Call) -> web.StreamResponse:
    """Forget an endpoint; what is still owed to it is not sent."""
    for _ in range(_TRIES):
        endpoint = await endpoint_of(call)
        if await call.context.endpoints.remove(endpoint):
            return _json({"id": endpoint.id, "object": "webhook_endpoint", "deleted": True})
    raise _busy()


async def rotate(call: Call) -> web.StreamResponse:
    """Replace the secret, and show the new one this once; both sign for a while."""
    ask = await asked(call, RotationRequest)
    key, made = call.context.vault.new_key(call.now)

    def rotated(endpoint: WebhookEndpoint) -> WebhookEndpoint:
        keyring = endpoint.keyring.rotated(key, call.now, overlap=ask.overlap)
        return replace(endpoint, keyring=keyring)

    return _json(await _document(call, await _changed(call, rotated), made))


async def enable(call: Call) -> web.StreamResponse:
    """Send messages to an endpoint again; what it missed can be replayed."""
    await asked(call, Nothing)
    enabled = await _changed(call, WebhookEndpoint.enabled)
    return _json(await _document(call, enabled))


async def disable(call: Call) -> web.StreamResponse:
    """Send an endpoint nothing until it is enabled; what it misses is kept."""
    await asked(call, Nothing)
    disabled = await _changed(
        call, lambda endpoint: endpoint.disabled(DisabledReason.OWNER, call.now)
    )
    return _json(await _document(call, disabled))


async def test(call: Call) -> web.StreamResponse:
    """Owe an endpoint a message that tells of nothing, and show its delivery."""
    await asked(call, Nothing)
    endpoint = await endpoint_of(call)
    if not endpoint.is_enabled:
        raise Conflict("The endpoint is disabled; enable it first.", code="endpoint_disabled")
    await call.context.admission.pace(call.tenant, "webhook-tests")
    data = orjson.dumps(endpoint_document(endpoint, call.now)).decode()
    delivery = message_to(endpoint, TEST, new_delivery_id(), call.now, data=data)
    await call.context.deliveries.owe(call.tenant.id, [delivery])
    headers = {"Location": f"/v1/deliveries/{delivery.id}"}
    return _json(delivery_document(delivery), status=202, headers=headers)


async def endpoint_of(call: Call) -> WebhookEndpoint:
    """Return the endpoint that the address names, if it is the tenant's."""
    endpoint_id = call.request.match_info["id"]
    endpoint = await call.context.endpoints.get(call.tenant.id, endpoint_id)
    if endpoint is None:
        raise Missing("There is no such webhook endpoint.", code="endpoint_not_found")
    return endpoint


async def _changed(
    call: Call, change: Callable[[WebhookEndpoint], WebhookEndpoint]
) -> WebhookEndpoint:
    """Write the endpoint that the address names over, as `change` says."""
    for _ in range(_TRIES):
        endpoint = await endpoint_of(call)
        written = await call.context.endpoints.swap(endpoint, change(endpoint))
        if written is not None:
            return written
    raise _busy()


def _busy() -> Conflict:
    return Conflict("The endpoint is changing too fast; try again.", code="endpoint_busy")


async def _document(
    call: Call, endpoint: WebhookEndpoint, made: Secrets | None = None
) -> dict[str, Any]:
    counts = await call.context.endpoints.counts(endpoint.id)
    document = {
        **endpoint_document(endpoint, call.now),
        "jwks_url": jwks_url(call, endpoint.keyring),
        "deliveries": {
            "delivered": counts.delivered,
            "undelivered": counts.undelivered,
            "failed_tries": counts.failed_tries,
        },
    }
    return document if made is None else {**document, "secret": made.text}


def jwks_url(call: Call, keyring: Keyring) -> str:
    """Return where everybody finds the public keys of a keyring."""
    base = call.context.settings.public_url.rstrip("/")
    return f"{base}/.well-known/jwks.json?keyring={keyring.id}"


def _json(
    document: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), status=status, headers=headers, content_type="application/json"
    )
