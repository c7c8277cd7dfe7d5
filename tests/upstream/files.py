"""Results that are given by URL: kept for a while on a host of their own, then gone."""

import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from aiohttp import web

from tests.upstream import delivery
from tests.upstream.faults import fault_of
from tests.upstream.tokens import Tokens


MAX_FILES = 512
_EXPIRED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
_KEYS = {"authorization", "x-key", "x-goog-api-key", "api-key"}
_PAGE = b"<!doctype html><title>Gone</title><p>This link has expired."


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    data: bytes = field(repr=False)
    content_type: str
    expires_at: float
    page: bool
    tokens: Tokens


class Files:
    """What `GET /_files/{name}` gives; the newest `MAX_FILES` are kept.

    They are given on the upstream's port, for answers with a path, and on `port`, which is a CDN:
    like a real one it refuses a request that carries a provider's key.
    """

    def __init__(self) -> None:
        self.port = 0
        self._numbers = itertools.count(1)
        self._files: OrderedDict[str, _File] = OrderedDict()

    def keep(
        self,
        data: bytes,
        content_type: str,
        *,
        lifetime: float = 86_400.0,
        page: bool = False,
        tokens: Tokens | None = None,
    ) -> str:
        """Keep `data` for `lifetime` seconds and return its path.

        Later it answers 403 with XML as an object store does, or with `page` 200 and a page. The
        `tokens` say how it travels.
        """
        name = f"{next(self._numbers):06}.{content_type.rpartition('/')[2]}"
        self._files[name] = _File(
            data=data,
            content_type=content_type,
            expires_at=time.monotonic() + lifetime,
            page=page,
            tokens=tokens or Tokens(),
        )
        if len(self._files) > MAX_FILES:
            self._files.popitem(last=False)
        return f"/_files/{name}?X-Signature=0123456789abcdef"

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /_files/{name}`."""
        file = self._files.get(request.match_info["name"])
        if file is None or "X-Signature" not in request.query:
            return web.Response(status=404, body=_EXPIRED, content_type="application/xml")
        if request.url.port == self.port and _KEYS & {name.lower() for name in request.headers}:
            return web.Response(status=400, body=_EXPIRED, content_type="application/xml")
        if time.monotonic() < file.expires_at:
            if (refused := fault_of(file.tokens)) is not None:
                return web.Response(status=int(refused.fault.value), body=_EXPIRED)
            return await delivery.send(
                request, file.tokens, file.data, content_type=file.content_type
            )
        if file.page:
            return web.Response(body=_PAGE, content_type="text/html")
        return web.Response(status=403, body=_EXPIRED, content_type="application/xml")
