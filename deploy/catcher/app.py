"""The catcher as a web application: a door for messages, and a page that shows what came in.

It listens on loopback and answers nobody who calls it by another name, so that no page of another
site can read it through a name that was turned to this machine. What it shows is put on the page
as text, and the page may load nothing from anywhere else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from aiohttp import web
from yarl import URL

from deploy.catcher.inbox import KEPT, Inbox
from deploy.catcher.keyholder import Keyholder, Unknown
from deploy.catcher.verdict import Verdict, judge


LARGEST: Final = 65_536  # bytes of a message; Darkroom sends less than 20 kB
PATIENCE: Final = 10.0  # seconds for a whole message to come
NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
PAGE: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
SAFE: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(
    url: str,
    keyholder: Keyholder,
    *,
    clock: Callable[[], float] = time.time,
    patience: float = PATIENCE,
) -> web.Application:
    """Return the catcher of what the Darkroom at `url` sends. `clock` gives Unix seconds."""
    inbox, started = Inbox(), clock()
    app = web.Application(client_max_size=LARGEST, middlewares=[_at_home])
    app.on_response_prepare.append(_safe)

    async def catch(request: web.Request) -> web.Response:
        """Take one message; 401 when nobody who may has signed it, 503 when nobody can tell."""
        async with asyncio.timeout(patience):
            body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            verdict = await _judged(keyholder, headers, body, clock())
        except Unknown as error:
            inbox.add(headers, body, None, str(error), answered=503, now=clock())
            return web.Response(status=503)
        wished = int(request.match_info.get("status", 204))
        status = wished if verdict.is_verified else 401
        inbox.add(headers, body, verdict, verdict.reason, answered=status, now=clock())
        return web.Response(status=status)

    async def messages(request: web.Request) -> web.Response:
        """Show what came after the message `after`."""
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 16):
            raise web.HTTPBadRequest(text="after is a number")
        return web.json_response(
            {
                "started": started,
                "service": url,
                "arrived": inbox.arrived,
                "kept": KEPT,
                "messages": inbox.after(int(after)),
            }
        )

    app.router.add_post("/hook", catch)
    app.router.add_post(r"/hook/{status:[2-5]\d\d}", catch)
    app.router.add_get("/messages", messages)
    for path, (name, content_type) in PAGE.items():
        app.router.add_get(path, _file(name, content_type))
    return app


async def _judged(
    keyholder: Keyholder, headers: dict[str, str], body: bytes, now: float
) -> Verdict:
    """Judge a message, with fresh keys when those that are known do not fit."""
    keys = await keyholder.keys()
    verdict = judge(headers, body, keys, now)
    if verdict.is_verified:
        return verdict
    others = await keyholder.keys(other_than=keys)
    return verdict if others is keys else judge(headers, body, others, now)


def _file(name: str, content_type: str) -> Handler:
    text = (files("deploy.catcher") / name).read_text(encoding="utf-8")

    async def serve(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return serve


@web.middleware
async def _at_home(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        host = URL(f"http://{request.host}").host
    except ValueError:
        host = None
    if host not in NAMES:
        raise web.HTTPMisdirectedRequest(text="The catcher answers to 127.0.0.1 and localhost.")
    try:
        return await handler(request)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


async def _safe(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SAFE)
