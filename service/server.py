"""The sockets: how the application is served, and what a client hears that speaks no HTTP.

aiohttp's own answer to a broken request repeats the bytes that broke it, in the body and in the
log; a mistyped header may be a key. Here such a client gets the plain error that everybody gets.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from service.errors import error_response
from service.logs import request_id_of


DRAIN = 30.0  # seconds that open requests get to end
KEEPALIVE = 75.0  # seconds; longer than proxies keep a connection that they may use again


class _Handler(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        kind = "invalid_request_error" if status < 500 else "server_error"
        answer = error_response(status, kind, "bad_request", "The request cannot be read.")
        answer.headers["X-Request-Id"] = request_id_of(request)
        answer.headers["Server"] = "darkroom"
        answer.force_close()
        return answer


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        return server


async def serve(
    app: web.Application,
    listening: socket.socket,
    *,
    ready: Callable[[], None],
    reload: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let open requests end, for `DRAIN` seconds at most.

    `ready` is called once the socket listens, `reload` at each SIGHUP.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    runner = make_runner(app)
    await runner.setup()
    try:
        await web.SockSite(runner, listening, backlog=1024).start()
        ready()
        await stop.wait()
    finally:
        await runner.cleanup()


def make_runner(app: web.Application, *, keepalive: float = KEEPALIVE) -> web.AppRunner:
    """Return what runs the application; no body is decompressed, no broken request repeated.

    A connection on which no whole head of a request came for `keepalive` seconds is closed.
    """
    options: dict[str, Any] = {"auto_decompress": False, "keepalive_timeout": keepalive}
    return _Runner(
        app, access_log=None, handler_cancellation=False, shutdown_timeout=DRAIN, **options
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address; raises OSError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening
