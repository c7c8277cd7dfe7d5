"""Every address of the service: method, path, who may come in, and what answers.

This table is all there is: the application and its description are both made from it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from service.context import Call, Context
from service.endpoints import (
    chat,
    health,
    images,
    job_events,
    jobs,
    models,
    quotes,
    responses,
    results,
    usage,
    webhooks,
)
from service.limits import check_headers
from service.logs import REQUEST_ID, TENANT
from storage.errors import Error
from storage.tenant import Scope


Endpoint = Callable[[Call], Awaitable[web.StreamResponse]]
Open = Callable[[web.Request, Context], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One address that asks for a key with `scope`."""

    method: str
    path: str
    endpoint: Endpoint
    scope: Scope


ROUTES = (
    Route("POST", "/v1/jobs", jobs.create, Scope.SUBMIT),
    Route("GET", "/v1/jobs", jobs.list_, Scope.READ),
    Route("GET", "/v1/jobs/{id}", jobs.show, Scope.READ),
    Route("DELETE", "/v1/jobs/{id}", jobs.delete, Scope.SUBMIT),
    Route("POST", "/v1/jobs/{id}/cancel", jobs.cancel, Scope.SUBMIT),
    Route("GET", "/v1/jobs/{id}/events", job_events.events, Scope.READ),
    Route("GET", "/v1/jobs/{id}/images/{index}", jobs.image, Scope.READ),
    Route("POST", "/v1/images/generations", images.generations, Scope.SUBMIT),
    Route("POST", "/v1/images/edits", images.edits, Scope.SUBMIT),
    Route("POST", "/v1/images/variations", images.variations, Scope.SUBMIT),
    Route("POST", "/api/images/generations", images.hub_generations, Scope.SUBMIT),
    Route("POST", "/v1/chat/completions", chat.completions, Scope.SUBMIT),
    Route("POST", "/api/v1/chat/completions", chat.completions, Scope.SUBMIT),
    Route("POST", "/v1/responses", responses.create, Scope.SUBMIT),
    Route("GET", "/v1/responses/{id}", responses.show, Scope.READ),
    Route("DELETE", "/v1/responses/{id}", responses.delete, Scope.SUBMIT),
    Route("POST", "/v1/responses/{id}/cancel", responses.cancel, Scope.SUBMIT),
    Route("POST", "/v1/quotes", quotes.create, Scope.READ),
    Route("GET", "/v1/usage", usage.show, Scope.READ),
    Route("GET", "/v1/models", models.list_, Scope.READ),
    Route("GET", "/v1/models/{id:.+}", models.show, Scope.READ),
    Route("GET", "/v1/webhook-secret", webhooks.secret, Scope.READ),
)

# Addresses that need no key: what they show is public, or the address itself is the key.
OPEN: tuple[tuple[str, str, Open], ...] = (
    ("GET", "/livez", health.livez),
    ("GET", "/readyz", health.readyz),
    ("GET", "/metrics", health.metrics),
    ("GET", "/objects/{key:.+}", results.open_link),
)


def add_routes(app: web.Application, context: Context) -> None:
    """Put every address on the application."""

    async def expected(request: web.Request) -> None:
        """Ask for the body only when its headers pass; whoever fails is refused by the handler."""
        with suppress(Error):
            check_headers(request, context.settings.limits)
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun

    for route in ROUTES:
        app.router.add_route(
            route.method, route.path, _guarded(route, context), expect_handler=expected
        )
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, _guarded(route, context))
    for method, path, endpoint in OPEN:
        app.router.add_route(method, path, _open(endpoint, context))
        app.router.add_route("HEAD", path, _open(endpoint, context))


def _guarded(
    route: Route, context: Context
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    endpoint, scope = route.endpoint, route.scope

    async def handle(request: web.Request) -> web.StreamResponse:
        now = context.clock()
        key, tenant = await context.doorkeeper.admit(request.headers, scope, now)
        request[TENANT] = tenant.id
        call = Call(
            request=request,
            context=context,
            tenant=tenant,
            key=key,
            id=request[REQUEST_ID],
            now=now,
        )
        return await endpoint(call)

    return handle


def _open(
    endpoint: Open, context: Context
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await endpoint(request, context)

    return handle
