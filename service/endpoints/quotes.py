"""`/v1/quotes`: what a job would cost and what would be lost of it, before it is submitted."""

from typing import Any

import orjson
from aiohttp import web

from service.body import read_json_or_form
from service.context import Call
from service.endpoints.jobs import draft_of
from service.inputs import FILES
from service.submission import asker_of
from storage.document import cost_document, warning_document
from storage.fit import Fit
from storage.quote import Quote


async def create(call: Call) -> web.StreamResponse:
    """Quote a job: the body is that of a submission, and nothing of it is kept."""
    context = call.context
    body = await read_json_or_form(
        call.request, context.settings.limits, context.intake, files=FILES
    )
    try:
        draft = await draft_of(call, body)
        job, found = context.reception.quoted(asker_of(call), draft)
    finally:
        body.discard()
    on = await context.availability.on(call.now)
    document = {
        "object": "quote",
        "model": job.model,
        "n": job.request.n,
        "currency": "USD",
        "quotes": [_document(quote, on) for quote in found],
        "warnings": [warning_document(warning) for warning in job.warnings],
    }
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _document(quote: Quote, on: frozenset[str]) -> dict[str, Any]:
    deployment, fitting = quote.deployment, quote.fitting
    shown: dict[str, Any] = {
        "deployment": deployment.name,
        "provider": deployment.provider,
        "available": not on or deployment.name in on,
        "cost": cost_document(quote.cost),
        "as_of": deployment.price.as_of,
    }
    if isinstance(fitting, Fit):
        warnings = [warning_document(warning) for warning in fitting.adaptations]
        return {**shown, "able": True, "warnings": warnings}
    return {**shown, "able": False, "param": fitting.param, "reason": fitting.reason}
