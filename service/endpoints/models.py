"""`/v1/models`: what can be asked for, from the catalog."""

from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from service.context import Call
from storage.catalog import Catalog, Model
from storage.errors import Missing


async def list_(call: Call) -> web.StreamResponse:
    """List all models."""
    on = await call.context.availability.on(call.now)
    catalog = call.context.catalog
    data = [_document(catalog, model, on) for model in catalog.models.values()]
    return web.Response(
        body=orjson.dumps({"object": "list", "data": data}), content_type="application/json"
    )


async def show(call: Call) -> web.StreamResponse:
    """Show one model, by its name or an alias."""
    catalog = call.context.catalog
    model = catalog.resolve(call.request.match_info["id"])
    if model is None:
        raise Missing("There is no such model.", param="model", code="model_not_found")
    on = await call.context.availability.on(call.now)
    return web.Response(
        body=orjson.dumps(_document(catalog, model, on)), content_type="application/json"
    )


def _document(catalog: Catalog, model: Model, on: frozenset[str]) -> dict[str, Any]:
    first = model.deployments[0]
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": first.provider,
        "available": not on or any(deployment.name in on for deployment in model.deployments),
        "aliases": sorted(alias for alias, name in catalog.aliases.items() if name == model.name),
        "capabilities": asdict(first.capabilities),
        "price": {name: value for name, value in asdict(first.price).items() if value is not None},
    }
