"""`/v1/admin`: tenants, their keys, and who did what to them. Only keys with the scope admin."""

from typing import Any

import orjson
from aiohttp import web

from service.body import read_json
from service.context import Call
from service.query import query_of, whole
from service.registry import Operator
from service.wire.admin import (
    KeyChanges,
    NewKey,
    NewTenant,
    Rotation,
    TenantChanges,
    act_document,
    key_document,
    tenant_document,
)
from service.wire.fields import read
from storage.errors import Invalid
from storage.tenant import ApiKey


async def tenants(call: Call) -> web.StreamResponse:
    """List all tenants, by id."""
    query_of(call, set())
    found = await call.context.tenants.all()
    return _list([tenant_document(tenant) for tenant in found])


async def make_tenant(call: Call) -> web.StreamResponse:
    """Make a tenant."""
    asked = read(NewTenant, await _fields(call))
    tenant = await call.context.registry.make_tenant(_operator(call), asked)
    return _answer(tenant_document(tenant), status=201)


async def tenant(call: Call) -> web.StreamResponse:
    """Show a tenant."""
    return _answer(tenant_document(await call.context.registry.tenant(_id(call))))


async def change_tenant(call: Call) -> web.StreamResponse:
    """Change a tenant's limits."""
    asked = read(TenantChanges, await _fields(call))
    tenant = await call.context.registry.change_tenant(_operator(call), _id(call), asked)
    return _answer(tenant_document(tenant))


async def remove_tenant(call: Call) -> web.StreamResponse:
    """Let a tenant in no more, everywhere within five seconds, and take away all that it has.

    Its jobs are cancelled and go with its images, files, batches, webhook endpoints, deliveries,
    bills and keys, step by step; its name is free again a quarter of an hour later at the earliest.
    """
    tenant = await call.context.registry.remove_tenant(_operator(call), _id(call))
    return _answer(tenant_document(tenant), status=202)


async def keys(call: Call) -> web.StreamResponse:
    """List a tenant's keys, the oldest first."""
    query = query_of(call, {"tenant"})
    if "tenant" not in query:
        raise Invalid("Missing parameter: tenant.", param="tenant", code="missing_parameter")
    tenant = await call.context.registry.tenant(query["tenant"])
    found = await call.context.tenants.keys_of(tenant.id)
    uses = await call.context.tenants.last_uses([key.id for key in found])
    return _list(
        [
            key_document(key, call.now, last_used_at=used)
            for key, used in zip(found, uses, strict=True)
        ]
    )


async def make_key(call: Call) -> web.StreamResponse:
    """Make a key and show its text, this once."""
    asked = read(NewKey, await _fields(call))
    key, text = await call.context.registry.make_key(_operator(call), asked)
    return _answer({**key_document(key, call.now), "key": text}, status=201)


async def key(call: Call) -> web.StreamResponse:
    """Show a key."""
    return await _shown(call, await call.context.registry.key(_id(call)))


async def change_key(call: Call) -> web.StreamResponse:
    """Change a key's name, scopes or limit."""
    asked = read(KeyChanges, await _fields(call))
    key = await call.context.registry.change_key(_operator(call), _id(call), asked)
    return await _shown(call, key)


async def rotate_key(call: Call) -> web.StreamResponse:
    """Make a key in the place of another, which works on for a while."""
    asked = read(Rotation, await _fields(call) if call.request.body_exists else {})
    registry = call.context.registry
    new, text, old = await registry.rotate_key(_operator(call), _id(call), asked)
    document = {
        **key_document(new, call.now),
        "key": text,
        "replaces": {"id": old.id, "expires_at": old.expires_at},
    }
    return _answer(document, status=201)


async def revoke_key(call: Call) -> web.StreamResponse:
    """Make a key stop working, everywhere within five seconds."""
    return await _shown(call, await call.context.registry.revoke_key(_operator(call), _id(call)))


async def audit(call: Call) -> web.StreamResponse:
    """List what operators did, the latest first."""
    query = query_of(call, {"limit", "cursor"})
    page = await call.context.acts.page(
        limit=whole(query, "limit", 50, range(1, 501)), after=query.get("cursor")
    )
    return _list([act_document(act_id, act) for act_id, act in page.acts], page.next)


async def _shown(call: Call, key: ApiKey) -> web.Response:
    (used,) = await call.context.tenants.last_uses([key.id])
    return _answer(key_document(key, call.now, last_used_at=used))


async def _fields(call: Call) -> dict[str, Any]:
    return (await read_json(call.request, call.context.settings.limits)).fields


def _operator(call: Call) -> Operator:
    return Operator(by=call.key.id, now=call.now, tenant=call.tenant.id)


def _id(call: Call) -> str:
    return call.request.match_info["id"]


def _answer(document: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def _list(data: list[dict[str, Any]], following: str | None = None) -> web.Response:
    return _answer(
        {"object": "list", "data": data, "has_more": following is not None, "next": following}
    )
