"""`/v1/usage`: what a tenant's jobs came to, by day and model."""

import re
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import orjson
from aiohttp import web

from service.context import Call
from storage.bill import NANO, Bill, nano_of
from storage.errors import Invalid


MOST_DAYS: Final = 366
USUAL_DAYS: Final = 30
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


async def show(call: Call) -> web.StreamResponse:
    """Show the tenant's bills from one day to another, both in UTC and both included."""
    query = call.request.query
    for name in query:
        if name not in {"from", "to"} or len(query.getall(name)) > 1:
            raise Invalid("Unknown parameter.", param=name[:100], code="unknown_parameter")
    today = datetime.fromtimestamp(call.now, UTC).date()
    last = _day(query, "to", today)
    first = _day(query, "from", last - timedelta(days=USUAL_DAYS - 1))
    if not 0 <= (last - first).days < MOST_DAYS:
        raise Invalid(
            f"It must be a day up to {MOST_DAYS - 1} days before `to`.",
            param="from",
            code="invalid_value",
        )
    bills = await call.context.bills.between(call.tenant.id, first.isoformat(), last.isoformat())
    document = {
        "object": "usage",
        "from": first.isoformat(),
        "to": last.isoformat(),
        "currency": "USD",
        "data": [asdict(bill) for bill in bills],
        "total": _total(bills),
        "spend_per_day": call.tenant.spend_per_day,
    }
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _total(bills: list[Bill]) -> dict[str, Any]:
    return {
        "jobs": sum(bill.jobs for bill in bills),
        "images": sum(bill.images for bill in bills),
        "cost": sum(nano_of(bill.cost) for bill in bills) / NANO,
        "unknown": sum(bill.unknown for bill in bills),
        "at_risk": sum(nano_of(bill.at_risk) for bill in bills) / NANO,
    }


def _day(query: Any, name: str, usual: date) -> date:
    text = query.get(name)
    if text is None:
        return usual
    if _DAY.fullmatch(text) is not None:
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise Invalid("It must be a day such as 2026-11-21.", param=name, code="invalid_value")
