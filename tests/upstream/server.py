"""The server: each dialect under its own prefix, and a side door for tests in other processes.

A base URL selects a dialect: `http://127.0.0.1:<port>/openai/v1`. The side door:

    GET    /_calls     the ledger, oldest first; `?dialect=&model=&prompt=` choose
    DELETE /_calls     forget it
    GET    /_bill      sums of calls and USD, by dialect and by key; peaks of open calls
    POST   /_faults    add a rule (`Rule.from_json`), e.g. {"dialect": "ark", "status": 503}
    GET    /_faults    how often each rule hit
    DELETE /_faults    drop all rules
    PUT    /_prices    {"openai": 0.04}: flat USD per picture; {} goes back to the tables
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiohttp import web

from tests.upstream.calls import Call, Ledger
from tests.upstream.dialects import DIALECTS, load
from tests.upstream.dialects.dialect import Dialect, Handler, World
from tests.upstream.faults import Rule


_MAX_BODY = 1_000_000_000
_WORLD = web.AppKey("world", World)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running fake, as a test in the same process sees it."""

    port: int
    world: World

    @property
    def ledger(self) -> Ledger:
        """All calls so far."""
        return self.world.ledger

    def url(self, path: str) -> str:
        """Return the absolute URL of `path`, e.g. `/openai/v1`."""
        return f"http://127.0.0.1:{self.port}{path}"

    def calls(self, **wanted: str) -> list[Call]:
        """Return the calls whose attributes are as `wanted`."""
        return self.ledger.calls(**wanted)

    def rule(self, **body: object) -> None:
        """Add a rule; see `Rule.from_json`."""
        self.world.rules.append(Rule.from_json(body))


def make_app(world: World | None = None) -> web.Application:
    """Return the application with all dialects and the side door."""
    app = web.Application(client_max_size=_MAX_BODY)
    app[_WORLD] = world or World()
    for name in DIALECTS:
        _mount(app, name, load(name)(name, app[_WORLD]))
    app.router.add_get("/_files/{name}", app[_WORLD].files.get)
    app.router.add_get("/_calls", _get_calls)
    app.router.add_delete("/_calls", _delete_calls)
    app.router.add_get("/_bill", _get_bill)
    app.router.add_get("/_faults", _get_faults)
    app.router.add_post("/_faults", _post_faults)
    app.router.add_delete("/_faults", _delete_faults)
    app.router.add_put("/_prices", _put_prices)
    return app


@asynccontextmanager
async def running(port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Upstream]:
    """Run the fake on `port` (0: any free) while the context lasts, and its files on another."""
    world = World()
    runner = web.AppRunner(make_app(world), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await web.TCPSite(runner, host, 0).start()
        (_, bound), (_, world.files.port) = runner.addresses
        yield Upstream(port=bound, world=world)
    finally:
        await runner.cleanup()


def _mount(app: web.Application, name: str, dialect: Dialect) -> None:
    def served(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await dialect.serve(request, handler)

        return serve

    for method, path, handler in dialect.routes():
        app.router.add_route(method, f"/{name}{path}", served(handler))


async def _get_calls(request: web.Request) -> web.Response:
    calls = request.app[_WORLD].ledger.calls(**request.query)
    return _json([call.as_json() for call in calls])


async def _delete_calls(request: web.Request) -> web.Response:
    request.app[_WORLD].ledger.clear()
    return web.Response(status=204)


async def _get_bill(request: web.Request) -> web.Response:
    return _json(request.app[_WORLD].ledger.bill())


async def _get_faults(request: web.Request) -> web.Response:
    rules = request.app[_WORLD].rules
    return _json([{"tokens": dict(rule.tokens.arguments), "hits": rule.hits} for rule in rules])


async def _post_faults(request: web.Request) -> web.Response:
    request.app[_WORLD].rules.append(Rule.from_json(await request.json()))
    return web.Response(status=201)


async def _delete_faults(request: web.Request) -> web.Response:
    request.app[_WORLD].rules.clear()
    return web.Response(status=204)


async def _put_prices(request: web.Request) -> web.Response:
    prices = request.app[_WORLD].prices
    prices.clear()
    prices.update(await request.json())
    return web.Response(status=204)


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
