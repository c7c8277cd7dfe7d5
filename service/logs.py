"""What is said about each request: one JSON line on standard error, and its figures.

A line names the route by its pattern and never by its address, whose query can open an object.
Prompts, keys and bodies have no way into it.
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from service.metrics import Metrics


REQUEST_ID: Final = web.RequestKey("request_id", str)
TENANT: Final = web.RequestKey("tenant", str)
JOB_ID: Final = web.RequestKey("job_id", str)

_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def log_requests(metrics: Metrics) -> Middleware:
    """Return the outermost middleware: request id, common headers, one line and one figure each."""
    log = structlog.get_logger()

    @web.middleware
    async def log_request(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = time.perf_counter()
        request_id = request_id_of(request)
        request[REQUEST_ID] = request_id
        answer = await handler(request)
        seconds = time.perf_counter() - began
        route = route_of(request)
        metrics.answered(request.method if route else "-", route, answer.status, seconds)
        if route not in _QUIET:
            said: dict[str, Any] = {
                "request_id": request_id,
                "method": request.method[:16],
                "route": route,
                "status": answer.status,
                "ms": round(seconds * 1000, 1),
            }
            if (tenant := request.get(TENANT)) is not None:
                said["tenant"] = tenant
            if (job_id := request.get(JOB_ID)) is not None:
                said["job_id"] = job_id
            log.info("request", **said)
        return answer

    return log_request


async def add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    """Put on every answer, streamed ones too, what all of them carry."""
    answer.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    answer.headers["Server"] = "darkroom"  # aiohttp would tell versions
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)


def request_id_of(request: web.BaseRequest) -> str:
    """Return the client's own request id when it is plain, else a new one."""
    theirs = request.headers.get("X-Request-Id", "")
    return theirs if _ID.fullmatch(theirs) else f"req_{secrets.token_hex(12)}"


def route_of(request: web.Request) -> str:
    """Return the pattern of the address; an address itself can be the key to something."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical
