"""Replicate: predictions with the input of each model, walked from starting to an end.

More tokens of this dialect, beside those of `queued`:

    [[nsfw]]             the prediction fails with the text that its safety checkers give
    [[aborted]] [[canceled]]   it ends so
    [[single]]           the output is one URL instead of a list
    [[elsewhere:URL]]    the URL to poll starts with that instead of this server's address
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Route, read_form, read_json
from tests.upstream.dialects.queued import Queued, Task
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import (
    Check,
    boolean,
    check,
    choice,
    mapping,
    number,
    picture,
    pictures,
    pixels,
    text,
    whole,
)
from tests.upstream.pictures import Sitting
from tests.upstream.tokens import Tokens


_RATIOS = [
    "match_input_image",
    "custom",
    "1:1",
    "16:9",
    "21:9",
    "3:2",
    "2:3",
    "4:5",
    "5:4",
    "3:4",
    "4:3",
    "9:16",
    "9:21",
]
_DATA_LIMIT = 256 * 1024
_FILE_SECONDS = 3600.0
_ONE = picture(_DATA_LIMIT)
_FLUX: dict[str, Check] = {
    "prompt": text(20_000),
    "aspect_ratio": choice(*_RATIOS[2:]),
    "num_outputs": whole(1, 4),
    "seed": whole(0, 2**32 - 1),
    "output_format": choice("webp", "jpg", "png"),
    "output_quality": whole(0, 100),
    "num_inference_steps": whole(1, 50),
    "disable_safety_checker": boolean,
}
_FLUX2: dict[str, Check] = {
    "prompt": text(20_000),
    "input_images": pictures(8, _ONE),
    "aspect_ratio": choice(*_RATIOS),
    "resolution": choice("match_input_image", "0.5 MP", "1 MP", "2 MP", "4 MP"),
    "width": whole(256, 2048),
    "height": whole(256, 2048),
    "seed": whole(0, 2**32 - 1),
    "safety_tolerance": whole(1, 5),
    "output_format": choice("webp", "jpg", "png"),
    "output_quality": whole(0, 100),
}
_FILL: dict[str, Check] = {
    "prompt": text(20_000),
    "image": _ONE,
    "mask": _ONE,
    "seed": whole(0, 2**32 - 1),
    "steps": whole(15, 50),
    "guidance": number(1.5, 100),
    "output_format": choice("jpg", "png"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model accepts, and its USD per picture."""

    fields: Mapping[str, Check]
    required: tuple[str, ...] = ("prompt",)
    price: float
    format: str = "webp"
    single: bool = True


MODELS = {
    "black-forest-labs/flux-schnell": Model(fields=_FLUX, price=0.003, single=False),
    "black-forest-labs/flux-dev": Model(fields=_FLUX, price=0.025, single=False),
    "black-forest-labs/flux-2-pro": Model(fields=_FLUX2, price=0.03),
    "black-forest-labs/flux-fill-pro": Model(
        fields=_FILL, required=("prompt", "image"), price=0.05, format="jpeg"
    ),
}
_ENVELOPE = {
    "input": mapping,
    "version": text(200),
    "webhook": text(2000),
    "webhook_events_filter": choice(["completed"]),
}
_STATUSES = {Fault.INVALID: 422, Fault.REFUSED_INPUT: 422, Fault.REFUSED_OUTPUT: 422}
_TITLES = {401: "Unauthenticated", 402: "Insufficient credit", 422: "Input validation failed"}
_NSFW = "NSFW content detected. Try running it again, or try a different prompt."
_FLAGGED = "The input or output was flagged as sensitive. Please try again. (E005) (abc)"


class Replicate(Queued):
    """`/replicate/v1/…`."""

    moderates_at_once = False

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/v1/models/{owner}/{model}/predictions", self.create),
            ("POST", "/v1/deployments/{owner}/{model}/predictions", self.create),
            ("POST", "/v1/predictions", self.create),
            ("GET", "/v1/predictions/{id}", self.poll),
            ("POST", "/v1/predictions/{id}/cancel", self.cancel),
            ("POST", "/v1/files", self.files),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        detail = refused.message
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
            detail = f"Request was throttled. Your rate limit resets in ~{refused.retry_after:g}s."
        if status == 422:
            detail = f"- input.{refused.param or 'prompt'}: {refused.message}\n"
        body = {
            "title": _TITLES.get(status, "Error"),
            "detail": detail,
            "status": status,
            "invalid_fields": [{"field": refused.param, "description": refused.message}],
        }
        return web.json_response(
            body, status=status, headers=headers, content_type="application/problem+json"
        )

    async def create(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST …/predictions`."""
        body = await read_json(request, call)
        name = _name(request, body)
        model = MODELS.get(name)
        if model is None:
            raise Refused(Fault.UNKNOWN_MODEL, "The requested resource could not be found.")
        check(body, _ENVELOPE, "input")
        wanted = body["input"]
        check(wanted, model.fields, *model.required)
        tokens = await self.take(call, model=name, prompt=wanted["prompt"])
        made = _made(tokens, wanted)
        if self.succeeds(call) and not {"nsfw", "aborted", "canceled"} & tokens.arguments.keys():
            self.charge(call, len(made), model.price * len(made))
        sitting = _sitting(name, wanted)

        async def make(asking: web.Request) -> dict[str, Any]:
            urls = [
                await self.url(asking, tokens, replace(sitting, index=i), lifetime=_FILE_SECONDS)
                for i in made
            ]
            single = model.single or "single" in tokens
            return {"output": (urls[0] if urls else None) if single else urls}

        task = await self.enqueue(call, make, task_id=f"{call.number:026}")
        payload = self._prediction(request, task, "starting")
        sent = await self.answer(request, call, payload)
        if not sent.prepared:
            sent.set_status(201)
        return sent

    async def poll(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /predictions/{id}`."""
        task = self.look(call, request.match_info["id"])
        if task is None:
            raise Refused(Fault.UNKNOWN_MODEL, "The requested resource could not be found.")
        status, error = _state(task)
        payload = self._prediction(request, task, status) | {"error": error}
        if status == "succeeded":
            payload |= await task.done(request)
            payload["metrics"] = {"predict_time": 1.5, "total_time": 1.7}
        return await self.answer(request, call, payload)

    async def cancel(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /predictions/{id}/cancel`."""
        task = self.tasks.get(request.match_info["id"])
        if task is None:
            raise Refused(Fault.UNKNOWN_MODEL, "The requested resource could not be found.")
        task.cancelled = True
        return web.json_response(self._prediction(request, task, "canceled"))

    async def files(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /files`: one part named `content`."""
        _, parts = await read_form(request, call)
        if [part.name for part in parts] != ["content"]:
            raise Refused(Fault.INVALID, "Missing content", param="content")
        (part,) = parts
        path = self.world.files.keep(part.data, part.content_type or "application/octet-stream")
        url = f"{request.scheme}://{request.url.host}:{self.world.files.port}{path}"
        payload = {"id": f"file_{call.number}", "size": part.size, "urls": {"get": url}}
        return web.json_response(payload, status=201)

    def _prediction(self, request: web.Request, task: Task, status: str) -> dict[str, Any]:
        home = task.tokens.text("elsewhere") or f"{request.scheme}://{request.host}"
        get = f"{home}/{self.name}/v1/predictions/{task.id}"
        return {
            "id": task.id,
            "model": "owner/name",
            "input": {},
            "output": None,
            "logs": "",
            "error": None,
            "status": status,
            "created_at": "2026-11-21T10:00:00Z",
            "data_removed": False,
            "source": "api",
            "urls": {"get": get, "cancel": f"{get}/cancel"},
        }


def _name(request: web.Request, body: Mapping[str, Any]) -> str:
    if "owner" in request.match_info:
        return f"{request.match_info['owner']}/{request.match_info['model']}"
    if "version" not in body:
        raise Refused(Fault.INVALID, "version is required", param="version")
    return str(body["version"]).partition(":")[0]


def _state(task: Task) -> tuple[str, str | None]:
    """Return the status of a prediction and its error."""
    if task.cancelled or "canceled" in task.tokens:
        return "canceled", None
    if task.open:
        return ("starting" if task.polls == 1 else "processing"), None
    if "aborted" in task.tokens:
        return "aborted", None
    if "nsfw" in task.tokens:
        return "failed", _NSFW
    if task.refused is not None:
        return "failed", _FLAGGED
    if "fail" in task.tokens:
        return "failed", "CUDA out of memory"
    return "succeeded", None


def _made(tokens: Tokens, wanted: Mapping[str, Any]) -> list[int]:
    count = 0 if "empty" in tokens else wanted.get("num_outputs", 1)
    return [index for index in range(count) if tokens.makes(index)]


def _sitting(name: str, wanted: Mapping[str, Any]) -> Sitting:
    width, height = 1024, 1024
    match wanted.get("aspect_ratio", "1:1"):
        case "custom":
            width, height = wanted.get("width", 1024), wanted.get("height", 1024)
        case str() as ratio if ":" in ratio:
            width, height = pixels(ratio, 1024)
    return Sitting(
        model=name,
        prompt=wanted["prompt"],
        width=width,
        height=height,
        seed=wanted.get("seed"),
        format=wanted.get("output_format", MODELS[name].format).replace("jpg", "jpeg"),
    )
