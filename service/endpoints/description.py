"""`/openapi.json` and `/docs`: the description of the API and the page that shows it.

Swagger UI comes out of an installed package, so that the page needs no other host; the package is
not imported, since that would read all of it into memory.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from service.openapi import Described, OpenDescribed, describe
from storage.errors import Missing


Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]

PACKAGE: Final = "offapi"
ASSETS: Final = {
    "/docs/swagger-ui.js": ("swagger_bundle.js", "text/javascript"),
    "/docs/swagger-ui.css": ("swagger_style.css", "text/css"),
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Darkroom API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="description"></div>
<script src="docs/swagger-ui.js"></script>
<script src="docs/start.js"></script>
</html>
"""
START: Final = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#description",
  deepLinking: true,
  persistAuthorization: true,
  validatorUrl: null,
});
"""


def pages(
    routes: Sequence[Described], open_routes: Sequence[OpenDescribed]
) -> Iterator[tuple[str, Serve]]:
    """Yield each address with what serves it."""

    @cache
    def document() -> bytes:
        return orjson.dumps(describe(routes, open_routes))

    async def openapi(request: web.Request) -> web.StreamResponse:
        """Describe the API."""
        return web.Response(body=document(), content_type="application/json")

    yield "/openapi.json", openapi
    yield "/docs", _text(PAGE, "text/html")
    yield "/docs/start.js", _text(START, "text/javascript")
    for path, (name, content_type) in ASSETS.items():
        yield path, _asset(name, content_type)


def _text(text: str, content_type: str) -> Serve:
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.Response(
            text=text,
            content_type=content_type,
            headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"},
        )

    return serve


def _asset(name: str, content_type: str) -> Serve:
    async def serve(request: web.Request) -> web.StreamResponse:
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise Missing("The page is not installed.")
        path = Path(spec.submodule_search_locations[0]) / name
        headers = {"Content-Type": content_type, "Cache-Control": "max-age=3600"}
        return web.FileResponse(path, headers=headers)

    return serve
