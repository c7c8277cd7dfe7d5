"""Black Forest Labs: one picture per task, asked for at the URL it gives, charged in credits.

What a deployment's `options` may say:

    image_field = "image"   the field of the input picture, where it is not `input_image` (and
                            `input_image_2`… for more): `image` to fill, `image_prompt` for Ultra
    poll_seconds = 0.5      the first pause between two polls
    body = {…}              further fields for every request, e.g. `safety_tolerance`

An order's options are further fields too; neither can replace what an order says by itself, or have
the result sent elsewhere.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from storage.catalog import Deployment
from storage.failure import FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.polling import Polling, Ticket
from worker.provider import Order, Progress, ProviderError, Reply, Tools
from worker.reply import replied
from worker.upstream import MIB, Upstream, file_room


CREDIT: Final = 0.01
FAMILY: Final = "bfl.ai"
_RESERVED: Final = frozenset({"prompt", "webhook_url", "webhook_secret"})
_ENDS: Final = {
    "Ready": None,
    "Request Moderated": FailureCode.CONTENT_POLICY,
    "Content Moderated": FailureCode.CONTENT_POLICY,
    "Error": FailureCode.UPSTREAM_ERROR,
    "Failed": FailureCode.UPSTREAM_ERROR,
    "Task not found": FailureCode.UPSTREAM_ERROR,
}
_WORDS: Final = {
    "Request Moderated": "The upstream's moderation refused the request.",
    "Content Moderated": "The upstream's moderation withheld the image.",
    "Task not found": "The upstream does not know its task any more.",
}


class BFL:
    """Generates and edits with the same endpoint of a model; fills masks with one of its own."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging
        self._image_field = str(deployment.options.get("image_field", "input_image"))
        self._body: Mapping[str, Any] = deployment.options.get("body", {})
        headers = {} if api_key is None else {"x-key": api_key}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )
        self._polling = Polling(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge, family=FAMILY
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        answer = await self._upstream.call(
            "POST",
            f"/v1/{quote(order.model)}",
            json=await self._fields(order),
            limit=MIB,
            prompt=order.prompt,
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        price = wire.number_at(body, "cost")
        ticket = Ticket.of(
            body,
            url=wire.at(body, "polling_url", kind=str),
            cost=None if price is None else round(price * CREDIT, 10),
        )
        await progress.submitted(str(ticket))
        return await self._finish(order, ticket)

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        return await self._finish(order, Ticket.read(upstream_id))

    async def _finish(self, order: Order, ticket: Ticket) -> Reply:
        url = ticket.url or f"/v1/get_result?id={quote(ticket.id, safe='')}"

        async def ask() -> dict[str, Any] | None:
            body = await self._polling.get(url)
            return body if body.get("status") in _ENDS else None

        body = await self._polling.until(ask)
        status = body["status"]
        if (code := _ENDS[status]) is not None:
            raise ProviderError(
                _WORDS.get(status, "The upstream's task failed."),
                code=code,
                outcome_unknown=status == "Task not found",
            )
        sample = wire.at(body, "result", "sample", kind=str)
        outcomes = [await self._upstream.picture(sample, limit=file_room(order))] if sample else []
        return replied(order, outcomes, cost=ticket.cost, upstream_id=str(ticket))

    async def _fields(self, order: Order) -> dict[str, Any]:
        sized = self._image_field != "image"  # what fills a mask keeps the size of the picture
        asked: dict[str, Any] = {
            "prompt": order.prompt,
            "width": order.width if sized else None,
            "height": order.height if sized else None,
            "aspect_ratio": order.aspect_ratio if sized else None,
            "seed": order.seed,
            "output_format": order.output_format,
        }
        for number, source in enumerate(order.images, 1):
            name = self._image_field if number == 1 else f"{self._image_field}_{number}"
            asked[name] = wire.encode(source.data)
        if order.mask is not None:
            asked["mask"] = wire.encode(await self._imaging.mask_to_white(order.mask.data))
        return fields(asked, self._body, order.options, reserved=_RESERVED)


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: a bad key is 403, as is what a key may not do."""
    if said.status == 403 and "authenticat" in said.message.lower():
        return FailureCode.AUTH
    return code_of(said.status)
