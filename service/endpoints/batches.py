"""`/v1/batches`: many requests from one file, in OpenAI's shape, and again what failed of them."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web

from service.batching import checked_webhook, planned, planned_again
from service.body import read_json
from service.context import Call
from service.preference import idempotency_key
from service.query import query_of, whole
from service.wire.batches import BatchRequest
from service.wire.fields import read
from storage.batch import Batch, BatchId
from storage.batch_document import batch_document
from storage.batches import new_batch_id
from storage.errors import Conflict, Invalid, Missing
from storage.file import Purpose


_TRIES: Final = 20
_HOUR: Final = 3600.0


async def create(call: Call) -> web.StreamResponse:
    """Take in a batch: read its file line by line, and have its requests made one after another."""
    body = await read_json(call.request, call.context.settings.limits)
    ask = read(BatchRequest, body.fields)
    file = await call.context.files.get(call.tenant.id, ask.input_file_id)
    if file is None:
        raise Missing("There is no such file.", param="input_file_id", code="file_not_found")
    if file.purpose is not Purpose.BATCH:
        raise Invalid("The file was not uploaded for a batch.", param="input_file_id")
    batch = Batch(
        id=_id(call),
        tenant=call.tenant.id,
        endpoint=ask.endpoint,
        created_at=call.now,
        window=int(ask.completion_window.removesuffix("h")) * _HOUR,
        plan=secrets.token_hex(8),
        input_file_id=file.id,
        metadata=ask.metadata,
        webhook_url=checked_webhook(call, ask.webhook_url),
    )
    return await _taken_in(call, batch, lambda: planned(call, batch, file.key))


async def list_(call: Call) -> web.StreamResponse:
    """List the tenant's batches, the newest first."""
    query = query_of(call, {"limit", "after"})
    limit = whole(query, "limit", 20, range(1, 101))
    found = await call.context.batches.of_tenant(
        call.tenant.id, limit=limit + 1, after=query.get("after")
    )
    data = [batch_document(batch) for batch in found[:limit]]
    return _sent(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(found) > limit,
        }
    )


async def show(call: Call) -> web.StreamResponse:
    """Show one batch; one that is open and was lost to the queue is queued again."""
    batch = await _batch(call)
    if not batch.is_ended and not await call.context.batches.is_queued(batch):
        await call.context.batches.stir(batch, call.context.clock())
    return _sent(batch_document(batch))


async def cancel(call: Call) -> web.StreamResponse:
    """End a batch early; what it has made so far is answered."""
    for _ in range(_TRIES):
        batch = await _batch(call)
        now = call.context.clock()
        written = await call.context.batches.swap(batch, batch.cancelling(now))
        if written is not None:
            await call.context.batches.stir(written, now)
            return _sent(batch_document(written))
    raise Conflict("The batch is changing too fast; try again.", code="batch_busy")


async def retry(call: Call) -> web.StreamResponse:
    """Make a new batch of the requests of an ended one that did not succeed."""
    old = await _batch(call)
    if not old.is_ended:
        raise Conflict("The batch has not ended yet.", code="batch_not_ended")
    batch = Batch(
        id=_id(call),
        tenant=old.tenant,
        endpoint=old.endpoint,
        created_at=call.now,
        window=old.window,
        plan=secrets.token_hex(8),
        input_file_id=old.input_file_id,
        retry_of=old.id,
        metadata=old.metadata,
        webhook_url=old.webhook_url,
    )
    return await _taken_in(call, batch, lambda: planned_again(call, batch, old))


def _id(call: Call) -> BatchId:
    return new_batch_id(call.tenant.id, idempotency_key(call.request.headers))


async def _taken_in(
    call: Call, batch: Batch, plan: Callable[[], Awaitable[Batch]]
) -> web.StreamResponse:
    """Plan the batch and take it in, or answer with the one that the same key made before."""
    batches = call.context.batches
    known = await batches.find(batch.id)
    if known is None:
        whole_batch = await plan()
        if await batches.add(whole_batch):
            return _sent(batch_document(whole_batch))
        await call.context.objects.delete([batch.plan_key])
        known = await batches.find(batch.id)
    if known is None or not known.is_same_request(batch):
        raise Conflict(
            "This Idempotency-Key was used for a different request.",
            param="Idempotency-Key",
            code="idempotency_key_reused",
        )
    return _sent(batch_document(known))


async def _batch(call: Call) -> Batch:
    batch = await call.context.batches.get(call.tenant.id, call.request.match_info["id"])
    if batch is None:
        raise Missing("There is no such batch.", code="batch_not_found")
    return batch


def _sent(document: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
