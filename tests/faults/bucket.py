"""A bucket that can be told to answer as a real one rarely does: refuse, throttle, or keep less.

It speaks as much S3 as Darkroom asks for and checks no signature; a real server does that for the
other rows.
"""

import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from aiohttp import web


NAME = "faults"
_KEY = re.compile(r"<Key>([^<]+)</Key>")
_ERROR = (
    "<Error><Code>{code}</Code><Message>told to</Message><BucketName>{name}</BucketName></Error>"
)


@dataclass
class Bucket:
    """What is kept, and what was asked; `refuses` returns a status and a code, or None."""

    port: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    refuses: Callable[[str, str], tuple[int, str] | None] = lambda _method, _key: None
    keeps: Callable[[str, bytes], bytes] = lambda _key, data: data

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one request."""
        key = request.match_info["key"]
        self.asked[request.method] += 1
        data = await request.read()
        refused = self.refuses(request.method, key)
        if refused is not None:
            status, code = refused
            return _xml(_ERROR.format(code=code, name=NAME), status)
        match request.method:
            case "PUT":
                self.kept[key] = self.keeps(key, data)
                return web.Response(headers={"ETag": _etag(self.kept[key])})
            case "POST":
                for name in _KEY.findall(data.decode()):
                    self.kept.pop(name, None)
                return _xml("<DeleteResult></DeleteResult>")
            case _ if not key:
                return self._listed(request.query.get("prefix", ""))
            case _ if key not in self.kept:
                return _xml(_ERROR.format(code="NoSuchKey", name=NAME), 404)
            case _:
                body = self.kept[key]
                return web.Response(body=body, headers={"ETag": _etag(body)})

    def _listed(self, prefix: str) -> web.Response:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{now}</LastModified>"
            f"<Size>{len(data)}</Size></Contents>"
            for key, data in self.kept.items()
            if key.startswith(prefix)
        )
        return _xml(f"<ListBucketResult><Name>{NAME}</Name>{rows}</ListBucketResult>")


@asynccontextmanager
async def bucket() -> AsyncIterator[Bucket]:
    """Run a bucket on loopback while the context lasts."""
    here = Bucket()
    app = web.Application(client_max_size=200_000_000)
    app.router.add_route("*", f"/{NAME}{{slash:/?}}{{key:.*}}", here.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        here.port = runner.addresses[0][1]
        yield here
    finally:
        await runner.cleanup()


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/xml")
