"""ComfyUI: a graph goes in, a history comes out, files are viewed; what is forgotten is gone.

It knows a handful of nodes and reads the prompt from the graph's first `CLIPTextEncode`.

More tokens of this dialect, beside those of `queued`:

    [[node-error]]    the graph is refused: a node's input is wrong
    [[interrupted]]   somebody stops it
    [[preview]]       a temporary picture is among the outputs
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.upstream import delivery
from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Route, World, read_form, read_json
from tests.upstream.dialects.queued import Queued, Task
from tests.upstream.faults import Fault, Refused, fault_of
from tests.upstream.fields import check, mapping, opened_part, text
from tests.upstream.pictures import Sitting, draw


_NODES = {
    "CheckpointLoaderSimple": {"ckpt_name"},
    "CLIPTextEncode": {"text", "clip"},
    "EmptyLatentImage": {"width", "height", "batch_size"},
    "KSampler": {
        *("model", "positive", "negative", "latent_image"),
        *("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    },
    "VAEDecode": {"samples", "vae"},
    "VAEEncode": {"pixels", "vae"},
    "LoadImage": {"image"},
    "LoadImageMask": {"image", "channel"},
    "SetLatentNoiseMask": {"samples", "mask"},
    "SaveImage": {"images", "filename_prefix"},
}
_NUMBERS = {
    "width": (16, 16_384, 8),
    "height": (16, 16_384, 8),
    "batch_size": (1, 4096, 1),
    "seed": (0, 2**64 - 1, 1),
    "steps": (1, 10_000, 1),
}
_ENVELOPE = {"prompt": mapping, "prompt_id": text(64), "client_id": text(64), "extra_data": mapping}
_MAX_FILES = 512


class ComfyUI(Queued):
    """`/comfyui/…`; a key is a bearer token for whatever stands before it, or there is none."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world)
        self._inputs: dict[str, tuple[int, int]] = {}
        self._outputs: dict[str, tuple[Sitting, Task]] = {}

    def key(self, request: web.Request) -> str | None:
        return super().key(request) or "nobody"

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/prompt", self.prompt),
            ("GET", "/history/{id}", self.history),
            ("GET", "/queue", self.queue),
            ("GET", "/view", self.view),
            ("POST", "/upload/image", self.upload),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        kinds = {Fault.REFUSED_INPUT, Fault.REFUSED_OUTPUT}
        status = 400 if refused.fault in kinds else int(refused.fault.value)
        error = {
            "type": refused.code or "prompt_outputs_failed_validation",
            "message": refused.message,
            "details": refused.param or "",
            "extra_info": {},
        }
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        body = {"error": error, "node_errors": {}}
        return web.json_response(body, status=status, headers=headers)

    async def prompt(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /prompt`."""
        body = await read_json(request, call)
        check(body, _ENVELOPE, "prompt")
        graph = body["prompt"]
        self._check(graph)
        words = _input(graph, "CLIPTextEncode", "text", "")
        tokens = await self.take(
            call, model=_input(graph, "CheckpointLoaderSimple", "ckpt_name", ""), prompt=words
        )
        if "node-error" in tokens:
            raise Refused(Fault.INVALID, "Value not in list", param="ckpt_name: 'x' not in []")
        sitting = self._sitting(graph, words)
        count = _input(graph, "EmptyLatentImage", "batch_size", 1)
        made = [i for i in range(count) if tokens.makes(i) and "empty" not in tokens]
        if self.succeeds(call):
            self.charge(call, len(made), 0.0)

        async def make(asking: web.Request) -> dict[str, Any]:
            names = [self._keep(task, replace(sitting, index=i)) for i in made]
            images = [{"filename": name, "subfolder": "", "type": "output"} for name in names]
            temporary = {"filename": "preview.png", "subfolder": "", "type": "temp"}
            return {
                "outputs": {
                    "3": {"images": [temporary] if "preview" in tokens else []},
                    "9": {"images": images},
                }
            }

        task = await self.enqueue(call, make, task_id=body.get("prompt_id"))
        payload = {"prompt_id": task.id, "number": call.number, "node_errors": {}}
        return await self.answer(request, call, payload)

    async def history(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /history/{id}`: empty until the end."""
        task = self.look(call, request.match_info["id"])
        if task is None or task.open:
            return await self.answer(request, call, {})
        entry: dict[str, Any] = {"prompt": [], "outputs": {}, "meta": {}, "status": _ended(task)}
        if entry["status"]["status_str"] == "success":
            entry |= await task.done(request)
        return await self.answer(request, call, {task.id: entry})

    async def queue(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /queue`."""
        call.tokens = self._tokens(call)
        waiting = [task for task in self.tasks.values() if task.open and "lost" not in task.tokens]
        items = [[number, task.id, {}, {}, []] for number, task in enumerate(waiting)]
        payload = {"queue_running": items[:1], "queue_pending": items[1:]}
        return await self.answer(request, call, payload)

    async def view(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /view`."""
        found = self._outputs.get(request.query.get("filename", ""))
        if found is None or request.query.get("type") != "output":
            raise Refused(Fault.UNKNOWN_MODEL, "Not found")
        sitting, task = found
        if "dead-url" in task.tokens:
            raise Refused(Fault.UNKNOWN_MODEL, "Not found")
        call.tokens = self._tokens(call).joined(task.tokens.below("file-"))
        if (refused := fault_of(call.tokens)) is not None:
            raise refused
        format_ = "jpeg" if "wrong-mime" in task.tokens else sitting.format
        data = draw(replace(sitting, format=format_))
        data = data[: len(data) // 2] if "bad-b64" in task.tokens else data
        return await delivery.send(request, call.tokens, data, content_type="image/png")

    async def upload(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /upload/image`."""
        fields, parts = await read_form(request, call)
        images = [part for part in parts if part.name == "image" and part.filename]
        if len(images) != 1 or fields.get("type", "input") != "input":
            raise Refused(Fault.INVALID, "No image")
        name = str(images[0].filename)
        if "/" in name or ".." in name:
            raise Refused(Fault.INVALID, "Bad file name")
        if len(self._inputs) >= _MAX_FILES:
            self._inputs.clear()
        self._inputs[name] = opened_part(images[0]).size
        return web.json_response({"name": name, "subfolder": "", "type": "input"})

    def _check(self, graph: Mapping[str, Any]) -> None:
        """Refuse a graph with unknown nodes, wrong inputs, dangling links or no output."""
        for number, node in graph.items():
            kind = node.get("class_type") if isinstance(node, dict) else None
            if kind not in _NODES:
                raise Refused(Fault.INVALID, "Cannot execute", code="invalid_prompt", param=number)
            inputs = node.get("inputs", {})
            if missing := _NODES[kind] - inputs.keys():
                message = f"Required input is missing: {min(missing)}"
                raise Refused(Fault.INVALID, message, param=number)
            for name, value in inputs.items():
                self._check_input(graph, name, value)
        if not any(node["class_type"] == "SaveImage" for node in graph.values()):
            raise Refused(Fault.INVALID, "Prompt has no outputs", code="prompt_no_outputs")

    def _check_input(self, graph: Mapping[str, Any], name: str, value: object) -> None:
        if isinstance(value, list):
            if not value or value[0] not in graph:
                raise Refused(Fault.INVALID, "Bad linked input", param=name)
        elif name in _NUMBERS:
            low, high, step = _NUMBERS[name]
            if not isinstance(value, int) or not low <= value <= high or value % step:
                raise Refused(Fault.INVALID, f"Value {value} is not in range", param=name)
        elif name == "image" and value not in self._inputs:
            raise Refused(Fault.INVALID, f"Invalid image file: {value}", param=name)

    def _sitting(self, graph: Mapping[str, Any], words: str) -> Sitting:
        name = _input(graph, "LoadImage", "image", None)
        width = _input(graph, "EmptyLatentImage", "width", 512)
        height = _input(graph, "EmptyLatentImage", "height", 512)
        if name is not None:
            width, height = self._inputs[name]
        return Sitting(
            model="comfyui",
            prompt=words,
            width=width,
            height=height,
            seed=_input(graph, "KSampler", "seed", 0),
        )

    def _keep(self, task: Task, sitting: Sitting) -> str:
        if len(self._outputs) >= _MAX_FILES:
            del self._outputs[next(iter(self._outputs))]
        name = f"Darkroom_{time.monotonic_ns()}_{sitting.index:05}_.png"
        self._outputs[name] = (sitting, task)
        return name


def _input(graph: Mapping[str, Any], kind: str, name: str, default: Any) -> Any:
    """Return an input of the first node of a kind."""
    nodes = (node for node in graph.values() if node["class_type"] == kind)
    return next((node["inputs"][name] for node in nodes), default)


def _ended(task: Task) -> dict[str, Any]:
    start = ["execution_start", {"prompt_id": task.id}]
    if "interrupted" in task.tokens:
        messages = [start, ["execution_interrupted", {"prompt_id": task.id, "node_id": "3"}]]
        return {"status_str": "error", "completed": False, "messages": messages}
    if "fail" in task.tokens:
        fault = {
            "node_id": "3",
            "node_type": "KSampler",
            "exception_type": "torch.OutOfMemoryError",
            "exception_message": "Allocation on device /root/ComfyUI failed",
            "traceback": [],
        }
        messages = [start, ["execution_error", fault]]
        return {"status_str": "error", "completed": False, "messages": messages}
    success = ["execution_success", {"prompt_id": task.id}]
    return {"status_str": "success", "completed": True, "messages": [start, success]}
