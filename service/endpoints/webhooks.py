"""Webhooks: for now, the secret that signs what a job's own receiver is sent."""

import orjson
from aiohttp import web

from service.context import Call


async def secret(call: Call) -> web.StreamResponse:
    """Show the secret that signs deliveries to a job's own `webhook_url`."""
    document = {"secret": await call.context.tenants.webhook_secret(call.tenant.id)}
    return web.Response(body=orjson.dumps(document), content_type="application/json")
