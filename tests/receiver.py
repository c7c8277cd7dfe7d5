"""A webhook receiver as a user would write one: the public library verifies each message."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError


@dataclass
class Receiver:
    """What came in: every message that was verified and when, and how many were not.

    `first_at` says when the first message about each job came; times are Unix seconds.
    """

    url: str
    secret: str = ""
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    first_at: dict[str, float] = field(default_factory=dict)
    taken_at: list[float] = field(default_factory=list)
    forged: int = 0
    status: Callable[[str], int] = lambda _: 200

    @property
    def ids_by_job(self) -> dict[str, set[str]]:
        """Return the message ids that came in for each job."""
        found: dict[str, set[str]] = {}
        for message_id, body in self.messages:
            found.setdefault(body["data"]["id"], set()).add(message_id)
        return found

    @property
    def tries(self) -> Counter[str]:
        """Return how often each message came in."""
        return Counter(message_id for message_id, _ in self.messages)

    async def take(self, request: web.Request) -> web.Response:
        """Verify one message and answer with the status that was asked for."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            message = Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return web.Response(status=400)
        message_id = headers["webhook-id"]
        self.messages.append((message_id, message))
        self.first_at.setdefault(message["data"]["id"], time.time())
        self.taken_at.append(time.time())
        return web.Response(status=self.status(message_id))


@asynccontextmanager
async def receiving(secret: str = "", *, port: int = 0) -> AsyncIterator[Receiver]:
    """Run a receiver on loopback while the context lasts, on `port` or on any that is free."""
    app = web.Application(client_max_size=1_000_000)
    receiver = Receiver(url="", secret=secret)
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()
