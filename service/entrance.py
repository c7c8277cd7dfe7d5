"""The entrance: what a request passes before its endpoint sees it.

Its key, what the key may do, and for a request that submits whether there is room for it: all of it
from the headers alone, before the body is read. A client that asks first, with `Expect`, is told
to send its body only when it would be let in.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service.admission import TooFast
from service.body import BODY
from service.context import Call, Context
from service.limits import check_headers
from service.logs import REQUEST_ID, TENANT
from service.strangers import address_of
from storage.errors import Error
from storage.rate import Ruling
from storage.tenant import ApiKey, Scope, Tenant


Endpoint = Callable[[Call], Awaitable[web.StreamResponse]]

_RULING: Final = web.RequestKey("ruling", Ruling)
_ADMITTED: Final = web.RequestKey("admitted", tuple[ApiKey, Tenant])
_REFUSED: Final = web.RequestKey("refused", Error)


@dataclass(frozen=True, slots=True)
class Entrance:
    """Leads to one endpoint those whose key has the scope; one that `submits` has limits."""

    endpoint: Endpoint
    scope: Scope
    context: Context
    submits: bool = False

    async def expected(self, request: web.Request) -> None:
        """Ask for the body, unless the request will be refused anyway."""
        try:
            check_headers(request, self.context.settings.limits)
            request[_ADMITTED] = await self._admitted(request)
        except Error as refusal:
            request[_REFUSED] = refusal
            return
        await ask_for_body(request)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer the request; raises refusals of `storage.errors`."""
        if (refusal := request.get(_REFUSED)) is not None:
            raise refusal
        key, tenant = request.get(_ADMITTED) or await self._admitted(request)
        call = Call(
            request=request,
            context=self.context,
            tenant=tenant,
            key=key,
            id=request[REQUEST_ID],
            now=self.context.clock(),
        )
        try:
            answer = await self.endpoint(call)
        finally:
            if (body := request.get(BODY)) is not None:
                body.discard()
        if self.submits and answer.status == 202:
            self.context.admission.took_in(tenant)
        return answer

    async def _admitted(self, request: web.Request) -> tuple[ApiKey, Tenant]:
        context = self.context
        now = context.clock()
        address = address_of(
            request.remote, request.headers.getall("X-Forwarded-For", ()), context.proxies
        )
        key, tenant = await context.doorkeeper.admit(
            request.headers, self.scope, now, address=address
        )
        request[TENANT] = tenant.id
        if self.submits:
            try:
                request[_RULING] = await context.admission.admit(tenant, key, now)
            except TooFast as refusal:
                request[_RULING] = refusal.ruling
                raise
        return key, tenant


async def ask_for_body(request: web.Request) -> None:
    """Tell a client that waits for it to send its body."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


async def add_rates(request: web.Request, answer: web.StreamResponse) -> None:
    """Tell whoever has rates where it stands, on every answer to a request that submits."""
    ruling = request.get(_RULING)
    if ruling is not None and ruling.standings:
        answer.headers["RateLimit-Policy"] = ruling.policy
        answer.headers["RateLimit"] = ruling.state
