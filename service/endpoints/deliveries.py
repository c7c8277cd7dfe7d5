"""`/v1/deliveries`: the log of what was sent to receivers, and sending it once more."""

from typing import Any, Final

import orjson
from aiohttp import web

from service.asked import asked
from service.context import Call
from service.query import number, one_of, query_of, whole
from service.wire.webhooks import Nothing, ReplayRequest
from storage.delivery import Delivery, DeliveryStatus
from storage.delivery_log import Wanted
from storage.endpoint import EndpointId
from storage.errors import Conflict, Invalid, Missing
from storage.event import MESSAGES
from storage.replay import Replay, ReplayStatus
from storage.replays import new_replay_id
from storage.webhook_document import delivery_document


KEPT: Final = 30 * 86_400.0
_FILTERS: Final = {
    *("endpoint", "job", "status", "type"),
    *("created_after", "created_before", "limit", "cursor"),
}


async def list_(call: Call) -> web.StreamResponse:
    """List the tenant's deliveries of the last thirty days, the newest first."""
    query = query_of(call, set(_FILTERS))
    page = await call.context.deliveries.page(
        call.tenant.id,
        await _wanted(call, query),
        limit=whole(query, "limit", 20, range(1, 101)),
        after=query.get("cursor"),
    )
    data = [delivery_document(one, with_replies=False) for one in page.deliveries]
    return _json(
        {"object": "list", "data": data, "has_more": page.next is not None, "next": page.next}
    )


async def show(call: Call) -> web.StreamResponse:
    """Show one delivery with each of its tries."""
    return _json(delivery_document(await _delivery_of(call)))


async def redeliver(call: Call) -> web.StreamResponse:
    """Send one message again, now, under the same id."""
    await asked(call, Nothing)
    delivery = await _delivery_of(call)
    if delivery.endpoint_id is not None:
        await _check_enabled(call, delivery.endpoint_id)
    anew = await call.context.deliveries.again(delivery, call.now)
    if anew is None:
        raise Conflict("The delivery has just changed; try again.", code="delivery_busy")
    return _json(delivery_document(anew), status=202)


async def replay(call: Call) -> web.StreamResponse:
    """Send a range of messages again, while nobody waits for it."""
    ask = await asked(call, ReplayRequest)
    if ask.endpoint is not None:
        await _check_enabled(call, ask.endpoint)
    since = max(ask.created_after or 0.0, call.now - KEPT)
    until = min(ask.created_before or call.now, call.now)
    if until < since:
        raise Invalid("The range is empty.", param="created_before", code="invalid_value")
    started = Replay(
        id=new_replay_id(),
        tenant=call.tenant.id,
        created_at=call.now,
        since=since,
        until=until,
        only_failed=ask.only == "failed",
        endpoint_id=None if ask.endpoint is None else EndpointId(ask.endpoint),
        type=ask.type,
    )
    await call.context.admission.pace(call.tenant, "replays")
    await call.context.replays.add(started)
    headers = {"Location": f"/v1/deliveries/replays/{started.id}", "Retry-After": "1"}
    return _json(_replay_document(started), status=202, headers=headers)


async def show_replay(call: Call) -> web.StreamResponse:
    """Show how far a replay has come."""
    found = await call.context.replays.get(call.tenant.id, call.request.match_info["id"])
    if found is None:
        raise Missing("There is no such replay.", code="replay_not_found")
    return _json(_replay_document(found))


async def _wanted(call: Call, query: dict[str, str]) -> Wanted:
    status = one_of(query, "status", DeliveryStatus)
    event = query.get("type")
    if event not in {None, *MESSAGES}:
        raise Invalid("There is no such event.", param="type", code="invalid_value")
    since = max(number(query, "created_after") or 0.0, call.now - KEPT)
    until = number(query, "created_before")
    if "job" in query:
        since, until = await _life_of(call, query["job"], since, until)
    return Wanted(
        statuses=tuple(DeliveryStatus) if status is None else (status,),
        endpoint_id=query.get("endpoint"),
        job_id=query.get("job"),
        type=event,
        since=since,
        until=until,
    )


async def _life_of(
    call: Call, job_id: str, since: float, until: float | None
) -> tuple[float, float | None]:
    """Return the part of a range in which a job was told of, where that is still on record."""
    job = await call.context.jobs.get(call.tenant.id, job_id)
    if job is None:
        return since, until
    since = max(since, job.created_at - 60)
    if job.finished_at is None:
        return since, until
    end = job.finished_at + 60
    return since, end if until is None else min(until, end)


async def _delivery_of(call: Call) -> Delivery:
    delivery_id = call.request.match_info["id"]
    delivery = await call.context.deliveries.get(call.tenant.id, delivery_id)
    if delivery is None:
        raise Missing("There is no such delivery.", code="delivery_not_found")
    return delivery


async def _check_enabled(call: Call, endpoint_id: str) -> None:
    endpoint = await call.context.endpoints.get(call.tenant.id, endpoint_id)
    if endpoint is None:
        raise Missing(
            "There is no such webhook endpoint.", param="endpoint", code="endpoint_not_found"
        )
    if not endpoint.is_enabled:
        raise Conflict(
            "The endpoint is disabled; enable it first.",
            param="endpoint",
            code="endpoint_disabled",
        )


def _replay_document(replay: Replay) -> dict[str, Any]:
    return {
        "id": replay.id,
        "object": "replay",
        "status": replay.status,
        "created_at": int(replay.created_at),
        "finished_at": None if replay.finished_at is None else int(replay.finished_at),
        "endpoint": replay.endpoint_id,
        "type": replay.type,
        "only": "failed" if replay.only_failed else "all",
        "created_after": replay.since,
        "created_before": replay.until,
        "replayed": replay.replayed,
        "truncated": replay.truncated and replay.status is ReplayStatus.DONE,
    }


def _json(
    document: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), status=status, headers=headers, content_type="application/json"
    )
