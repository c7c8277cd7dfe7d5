"""fal: a queue before every app, and a body that is the app's own input, so the apps differ.

What a deployment's `options` may say, because apps differ:

    edit_model = "…"            the app for edits, where it is not the deployment's own
    image_field = "image_url"   one input picture under this name, instead of a list in
    images_field = "image_urls" this one
    mask_field = "mask_url"     the name of the mask, white where the picture may change
    poll_seconds = 0.5          the first pause between two polls
    body = {…}                  further fields for every input, e.g. `num_inference_steps`

An order's options are further fields too; neither can replace what an order says by itself.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.polling import Polling, Ticket
from worker.provider import Order, Picture, Progress, Reply, Tools
from worker.reply import replied
from worker.upstream import MIB, Upstream, file_room


FAMILY: Final = "fal.run"
_RESERVED: Final = frozenset({"prompt", "num_images", "sync_mode"})
_KINDS: Final = {
    "content_policy_violation": FailureCode.CONTENT_POLICY,
    "no_media_generated": FailureCode.NO_IMAGE,
    "file_download_error": FailureCode.INVALID_IMAGE,
    "file_too_large": FailureCode.INVALID_IMAGE,
    "image_load_error": FailureCode.INVALID_IMAGE,
    "image_too_large": FailureCode.INVALID_IMAGE,
    "image_too_small": FailureCode.INVALID_IMAGE,
}
_MONEY: Final = ("balance", "user is locked", "billing")
_WITHHELD: Final = Failure(
    code=FailureCode.CONTENT_POLICY, message="The upstream's moderation withheld the image."
)


class Fal:
    """Submits to the queue, asks for the status, takes the result."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging
        self._options = deployment.options
        headers = {} if api_key is None else {"Authorization": f"Key {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )
        self._polling = Polling(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge, family=FAMILY
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        app = str(self._options.get("edit_model", order.model)) if order.edit else order.model
        answer = await self._upstream.call(
            "POST",
            f"/{quote(app)}",
            json=await self._fields(order),
            limit=MIB,
            prompt=order.prompt,
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        home = _home(app, wire.at(body, "request_id", kind=str) or "")
        ticket = Ticket.of(
            body,
            id_field="request_id",
            url=wire.at(body, "status_url", kind=str) or f"{home}/status",
            result_url=wire.at(body, "response_url", kind=str) or home,
        )
        await progress.submitted(str(ticket))
        return await self._finish(order, ticket)

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        return await self._finish(order, Ticket.read(upstream_id))

    async def _finish(self, order: Order, ticket: Ticket) -> Reply:
        """Wait for the end, good or bad; only the result says which and why."""

        async def ask() -> dict[str, Any] | None:
            body = await self._polling.get(ticket.url)
            return body if body.get("status") == "COMPLETED" else None

        ended = await self._polling.until(ask)
        if ended.get("error"):
            body = await self._polling.get(ticket.result_url)
        else:
            body = await self._polling.insist(lambda: self._polling.get(ticket.result_url))
        return replied(order, await self._outcomes(body, order), upstream_id=str(ticket))

    async def _outcomes(self, body: Mapping[str, Any], order: Order) -> list[Picture | Failure]:
        items = wire.items_at(body, "images") or [wire.at(body, "image", kind=dict) or {}]
        flags = wire.at(body, "has_nsfw_concepts", kind=list) or []
        outcomes: list[Picture | Failure] = []
        for number, item in enumerate(items[: order.n]):
            if number < len(flags) and flags[number] is True:
                outcomes.append(_WITHHELD)
            elif url := wire.at(item, "url", kind=str):
                outcomes.append(await self._upstream.picture(url, limit=file_room(order)))
        return outcomes

    async def _fields(self, order: Order) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "prompt": order.prompt,
            "num_images": order.n if order.n != 1 else None,
            "aspect_ratio": order.aspect_ratio,
            "resolution": order.resolution,
            "seed": order.seed,
            "negative_prompt": order.negative_prompt,
            "output_format": order.output_format,
        }
        if order.width:
            asked["image_size"] = {"width": order.width, "height": order.height}
        urls = [wire.data_url(source.data, source.content_type) for source in order.images]
        if urls and (name := self._options.get("image_field")):
            asked[str(name)] = urls[0]
        elif urls:
            asked[str(self._options.get("images_field", "image_urls"))] = urls
        if order.mask is not None:
            white = await self._imaging.mask_to_white(order.mask.data)
            name = str(self._options.get("mask_field", "mask_url"))
            asked[name] = wire.data_url(white, "image/png")
        further = self._options.get("body", {})
        return fields(asked, further, order.options, reserved=_RESERVED)


def _home(app: str, request_id: str) -> str:
    """Return the path of a task; it has the owner and the alias of its app, and no more of it."""
    return f"/{quote('/'.join(app.split('/')[:2]))}/requests/{quote(request_id, safe='')}"


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: an app names its reason in a list of details."""
    for detail in wire.items_at(said.error, "detail"):
        if (code := _KINDS.get(wire.at(detail, "type", kind=str) or "")) is not None:
            return code
    if said.status == 403 and any(part in said.message.lower() for part in _MONEY):
        return FailureCode.BILLING
    return code_of(said.status)
