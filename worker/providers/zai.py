"""Z.AI and Zhipu BigModel: pictures from words alone, at once or as a task, always by URL.

What a deployment's `options` may say:

    async = true        submit a task and poll it, where the model can: what is paid for outlives us
    poll_seconds = 0.5  the first pause between two polls
    body = {…}          further fields for every request, e.g. `watermark_enabled = true`, since
                        the Chinese site lets only those switch the mark off who signed for it

An order's options are further fields too; neither can replace what an order says by itself.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from storage.request import Adaptation
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.polling import Polling, Ticket
from worker.provider import Order, Progress, ProviderError, Reply, Tools
from worker.reply import NO_IMAGE, replied
from worker.upstream import MIB, Upstream, file_room


_RESERVED: Final = frozenset({"model", "prompt", "size", "request_id"})
_CODES: Final = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), FailureCode.AUTH),
    **dict.fromkeys(("1110", "1111", "1112", "1120", "1121", "1220"), FailureCode.PERMISSION),
    **dict.fromkeys(("1113", "1304", "1308", "1309"), FailureCode.BILLING),
    **dict.fromkeys(("1310", "1311", "1313"), FailureCode.BILLING),
    **dict.fromkeys(("1211", "1221", "1222"), FailureCode.MODEL_NOT_FOUND),
    **dict.fromkeys(("1200", "1210", "1212", "1213"), FailureCode.INVALID_REQUEST),
    **dict.fromkeys(("1214", "1215", "1261"), FailureCode.INVALID_REQUEST),
    **dict.fromkeys(("500", "1230", "1231", "1234"), FailureCode.UPSTREAM_ERROR),
    **dict.fromkeys(("1300", "1301"), FailureCode.CONTENT_POLICY),
    **dict.fromkeys(("1302", "1303"), FailureCode.RATE_LIMITED),
    **dict.fromkeys(("1305", "1312"), FailureCode.OVERLOADED),
}
_WITHHELD: Final = Failure(
    code=FailureCode.CONTENT_POLICY, message="The upstream's moderation withheld the image."
)
_SHORTEST_USER: Final = 6
_LONGEST_USER: Final = 128


class ZAI:
    """Generates; there are no edits."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._queued = bool(deployment.options.get("async"))
        self._body: Mapping[str, Any] = deployment.options.get("body", {})
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )
        self._polling = Polling(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        path = "/async/images/generations" if self._queued else "/images/generations"
        answer = await self._upstream.call(
            "POST", path, json=self._fields(order), limit=MIB, prompt=order.prompt
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        if not self._queued:
            upstream_id = wire.at(body, "id", kind=str)
            return await self._reply(order, body, "data", upstream_id=upstream_id)
        ticket = Ticket.of(body)
        await progress.submitted(str(ticket))
        return await self._finish(order, ticket)

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        return await self._finish(order, Ticket.read(upstream_id))

    async def _finish(self, order: Order, ticket: Ticket) -> Reply:
        path = f"/async-result/{quote(ticket.id, safe='')}"

        async def ask() -> dict[str, Any] | None:
            body = await self._polling.get(path)
            return body if body.get("task_status") in {"SUCCESS", "FAIL"} else None

        body = await self._polling.until(ask)
        if body["task_status"] == "FAIL":
            if body.get("error"):
                raise self._upstream.refusal(200, {}, body, prompt=order.prompt)
            raise ProviderError("The upstream's task failed.", code=FailureCode.UPSTREAM_ERROR)
        return await self._reply(order, body, "image_result", upstream_id=str(ticket))

    def _fields(self, order: Order) -> dict[str, Any]:
        asked = {
            "model": order.model,
            "prompt": order.prompt,
            "size": f"{order.width}x{order.height}" if order.width else None,
            "quality": order.quality,
            "user_id": order.user if _is_good_user(order.user) else None,
            "watermark_enabled": order.watermark,
            "request_id": f"{order.job_id}-{order.attempt}-{order.first_index}",
        }
        plain = {"watermark_enabled": False}
        return fields(asked, plain, self._body, order.options, reserved=_RESERVED)

    async def _reply(
        self, order: Order, body: Mapping[str, Any], where: str, *, upstream_id: str | None
    ) -> Reply:
        """Fetch the picture; the one list that may be empty may say why it is."""
        urls = [wire.at(item, "url", kind=str) for item in wire.items_at(body, where)]
        found = wire.items_at(body, "content_filter")
        severe = any(wire.at(item, "level", kind=int) == 0 for item in found)
        return replied(
            order,
            [
                await self._upstream.picture(url, limit=file_room(order))
                for url in urls[: order.n]
                if url
            ],
            missing=_WITHHELD if severe else NO_IMAGE,
            upstream_id=upstream_id,
            adaptations=_adaptations(order),
        )


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: its codes are numbers written as text."""
    return _CODES.get(said.code) or code_of(said.status)


def _is_good_user(user: str | None) -> bool:
    return user is not None and _SHORTEST_USER <= len(user) <= _LONGEST_USER


def _adaptations(order: Order) -> tuple[Adaptation, ...]:
    """Name what cannot be said: a user of less than six letters."""
    if order.user is None or _is_good_user(order.user):
        return ()
    return (Adaptation(param="user", action="dropped", requested=order.user),)
