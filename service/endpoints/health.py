"""Whether the service lives, whether it can work, and what it measures."""

import orjson
from aiohttp import web

from service.context import Context
from storage.errors import Unavailable


async def livez(request: web.Request, context: Context) -> web.StreamResponse:
    """Say that the process answers."""
    return web.Response(text="ok")


async def readyz(request: web.Request, context: Context) -> web.StreamResponse:
    """Say whether Redis answers, without which nothing can be taken in."""
    try:
        await context.commands.execute("PING")
    except Unavailable as error:
        document = {"status": "unavailable", "reason": error.message}
        return web.Response(
            status=503, body=orjson.dumps(document), content_type="application/json"
        )
    return web.Response(body=orjson.dumps({"status": "ok"}), content_type="application/json")


async def metrics(request: web.Request, context: Context) -> web.StreamResponse:
    """Show the figures."""
    page = await context.metrics.page(context.clock())
    return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4"})
