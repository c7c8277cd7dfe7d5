"""ComfyUI: a server of one's own, which runs whatever graph it is given.

A deployment brings the graphs, as ComfyUI saves them for its API, with named places in them
(`worker.workflow`): {{prompt}} {{negative_prompt}} {{seed}} {{width}} {{height}} {{n}} {{model}}
and, for edits, {{image}} {{image_2}}… and {{mask}}, which are names of uploaded files for
`LoadImage` and `LoadImageMask`. The mask is white where the picture may change, in every colour
channel, so it is loaded with the channel "red".

We choose the task's id, and it is on record before the task is there. A server that has started
again knows nothing of its tasks, which is told from one that is still at work by its queue.

What a deployment's `options` may say:

    workflow = "…"          the graph that generates, as JSON or as a table
    edit_workflow = "…"     the graph for edits
    mask_workflow = "…"     the graph for edits within a mask
    values = {steps = 20}   values for places of one's own; an order's options may replace them
    poll_seconds = 0.5      the first pause between two polls
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

import aiohttp

from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.polling import Polling, Ticket
from worker.provider import Order, Picture, Progress, ProviderError, Reply, Tools
from worker.reply import replied
from worker.upstream import MIB, Upstream, file_room
from worker.workflow import Unfilled, filled, read


SIDE: Final = 1024
MISSED: Final = 3
_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_UNFETCHED: Final = Failure(
    code=FailureCode.UPSTREAM_ERROR, message="The upstream's image could not be fetched."
)


class ComfyUI:
    """Fills a graph, queues it, waits for its history, views its outputs."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging
        self._options = deployment.options
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )
        self._polling = Polling(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        task = f"{order.job_id}/{order.attempt}/{order.first_index}"
        ticket = Ticket(id=str(uuid5(NAMESPACE_OID, task)))
        graph = await self._graph(order, ticket.id)
        await progress.submitted(str(ticket))
        answer = await self._upstream.call(
            "POST",
            "/prompt",
            json={"prompt": graph, "prompt_id": ticket.id},
            limit=MIB,
            prompt=order.prompt,
        )
        self._upstream.read(answer, prompt=order.prompt)
        return await self._finish(order, ticket)

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        return await self._finish(order, Ticket.read(upstream_id))

    # -- the graph -------------------------------------------------------------------------------

    async def _graph(self, order: Order, task_id: str) -> dict[str, Any]:
        """Return the graph for this order, its input pictures uploaded."""
        graph = read(self._options.get(_workflow(order)))
        if graph is None:
            message = f"The deployment has no {_workflow(order).replace('_', ' ')}."
            raise ProviderError(message, code=FailureCode.MODEL_NOT_FOUND)
        values: dict[str, Any] = {
            **self._options.get("values", {}),
            **_wishes(order.options),
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt or "",
            "seed": _seed(order) if order.seed is None else order.seed,
            "width": order.width or SIDE,
            "height": order.height or SIDE,
            "n": order.n,
            "model": order.model,
        }
        for number, source in enumerate(order.images, 1):
            name = f"{task_id}_{number}.{_EXTENSIONS.get(source.content_type, 'png')}"
            place = "image" if number == 1 else f"image_{number}"
            values[place] = await self._upload(name, source.data, source.content_type)
        if order.mask is not None:
            white = await self._imaging.mask_to_white(order.mask.data)
            values["mask"] = await self._upload(f"{task_id}_mask.png", white, "image/png")
        try:
            return dict(filled(graph, values))
        except Unfilled as error:
            raise ProviderError(str(error), code=FailureCode.INVALID_REQUEST) from None

    async def _upload(self, name: str, data: bytes, content_type: str) -> str:
        """Return the name under which a graph finds the picture."""
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("image", io.BytesIO(data), filename=name, content_type=content_type)
        form.add_field("type", "input")
        form.add_field("overwrite", "true")
        answer = await self._upstream.call("POST", "/upload/image", data=form, limit=MIB)
        body = self._upstream.read(answer)
        folder = wire.at(body, "subfolder", kind=str)
        kept = wire.at(body, "name", kind=str) or name
        return f"{folder}/{kept}" if folder else kept

    # -- the result ------------------------------------------------------------------------------

    async def _finish(self, order: Order, ticket: Ticket) -> Reply:
        missed = 0

        async def ask() -> dict[str, Any] | None:
            """Return the history of the task, an empty one if the server does not know it."""
            nonlocal missed
            history = await self._polling.get(f"/history/{ticket.id}")
            if (entry := wire.at(history, ticket.id, kind=dict)) is not None:
                return entry
            queue = await self._polling.get("/queue")
            missed = 0 if _is_queued(queue, ticket.id) else missed + 1
            return {} if missed >= MISSED else None

        entry = await self._polling.until(ask)
        if not entry:
            message = "The upstream does not know its task any more."
            raise ProviderError(message, code=FailureCode.UPSTREAM_ERROR)
        if wire.at(entry, "status", "status_str", kind=str) == "error":
            raise ProviderError(_why(entry), code=FailureCode.UPSTREAM_ERROR)
        outcomes = [await self._view(image, order) for image in _outputs(entry)[: order.n]]
        return replied(order, outcomes, upstream_id=str(ticket))

    async def _view(self, image: Mapping[str, Any], order: Order) -> Picture | Failure:
        limit = 2 * file_room(order)  # a graph may enlarge
        params = {name: str(image.get(name, "")) for name in ("filename", "subfolder", "type")}
        try:
            answer = await self._polling.insist(
                lambda: self._upstream.call("GET", "/view", params=params, limit=limit)
            )
        except ProviderError:
            return _UNFETCHED
        return Picture(data=answer.body) if answer.body else _UNFETCHED


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: the statuses tell."""
    return code_of(said.status)


def _workflow(order: Order) -> str:
    """Return the name of the graph that an order needs."""
    if order.mask is not None:
        return "mask_workflow"
    return "edit_workflow" if order.edit else "workflow"


def _wishes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's own values; no name of a file, which may be that of somebody else."""
    return {k: v for k, v in options.items() if not k.startswith(("image", "mask"))}


def _seed(order: Order) -> int:
    """Return a seed for those who gave none: a graph that was run before is not run again."""
    digest = hashlib.blake2b(f"{order.job_id}/{order.first_index}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "big")


def _is_queued(queue: Mapping[str, Any], task_id: str) -> bool:
    items = [
        item
        for name in ("queue_running", "queue_pending")
        for item in wire.at(queue, name, kind=list) or ()
    ]
    return any(wire.at(item, 1, kind=str) == task_id for item in items)


def _why(entry: Mapping[str, Any]) -> str:
    """Return in words of ours why a graph did not run to its end; its own tell of the machine."""
    for message in wire.at(entry, "status", "messages", kind=list) or ():
        if wire.at(message, 0, kind=str) == "execution_interrupted":
            return "The upstream's task was interrupted."
        if "OutOfMemory" in (wire.at(message, 1, "exception_type", kind=str) or ""):
            return "The upstream ran out of memory."
    return "The upstream's task failed."


def _outputs(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the files that the graph saved; those of type temp are previews."""
    nodes = wire.at(entry, "outputs", kind=dict) or {}
    images = [image for node in nodes.values() for image in wire.items_at(node, "images")]
    return [image for image in images if image.get("type") == "output"]
