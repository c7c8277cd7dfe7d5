"""fal: a queue before every app; the body is the app's own input, the result may be an error.

More tokens of this dialect, beside those of `queued`:

    [[late-refusal]]   the app refuses its input by policy, which only the result tells
    [[single]]         the result has `image` instead of `images`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Route, read_json
from tests.upstream.dialects.queued import Queued
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import (
    Check,
    boolean,
    check,
    choice,
    picture,
    pictures,
    pixels,
    text,
    whole,
)
from tests.upstream.pictures import Sitting
from tests.upstream.tokens import Tokens


_PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_RATIOS = ["21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16"]


def _size(value: object) -> str | None:
    match value:
        case str() if value in _PRESETS:
            return None
        case {"width": int(width), "height": int(height), **rest} if not rest:
            good = 64 <= width <= 4096 and 64 <= height <= 4096
            return None if good else "Each edge should be from 64 to 4096"
    return "Input should be a preset or an object with width and height"


_FLUX: dict[str, Check] = {
    "prompt": text(10_000),
    "image_size": _size,
    "num_images": whole(1, 4),
    "seed": whole(0, 2**32 - 1),
    "output_format": choice("jpeg", "png"),
    "sync_mode": boolean,
    "num_inference_steps": whole(1, 50),
    "enable_safety_checker": boolean,
    "safety_tolerance": choice("1", "2", "3", "4", "5", "6"),
}
_BANANA: dict[str, Check] = {
    "prompt": text(50_000, 3),
    "aspect_ratio": choice("auto", *_RATIOS),
    "resolution": choice("1K", "2K", "4K"),
    "num_images": whole(1, 4),
    "seed": whole(0, 2**32 - 1),
    "output_format": choice("jpeg", "png", "webp"),
    "sync_mode": boolean,
}
_ONE = picture()
_MANY = pictures(14, picture())


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """What one app accepts, and its USD per picture."""

    fields: Mapping[str, Check]
    required: tuple[str, ...] = ("prompt",)
    price: float
    format: str = "jpeg"


APPS = {
    "fal-ai/flux/schnell": App(fields=_FLUX, price=0.003),
    "fal-ai/flux/dev": App(fields=_FLUX, price=0.025),
    "fal-ai/flux-2-pro": App(fields=_FLUX, price=0.03),
    "fal-ai/flux-2-pro/edit": App(
        fields={**_FLUX, "image_urls": _MANY}, required=("prompt", "image_urls"), price=0.045
    ),
    "fal-ai/flux-lora/inpainting": App(
        fields={**_FLUX, "image_url": _ONE, "mask_url": _ONE},
        required=("prompt", "image_url", "mask_url"),
        price=0.035,
    ),
    "fal-ai/nano-banana-2": App(fields=_BANANA, price=0.08, format="png"),
    "fal-ai/nano-banana-2/edit": App(
        fields={**_BANANA, "image_urls": _MANY},
        required=("prompt", "image_urls"),
        price=0.08,
        format="png",
    ),
}
_STATUSES = {
    Fault.INVALID: 422,
    Fault.QUOTA: 403,
    Fault.REFUSED_INPUT: 422,
    Fault.REFUSED_OUTPUT: 422,
}
_LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard."


class Fal(Queued):
    """`/fal/{owner}/{app}[/path]`."""

    def key(self, request: web.Request) -> str | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Key" and key else None

    def routes(self) -> Sequence[Route]:
        task = "/{owner}/{app}/requests/{id}"
        return (
            ("GET", f"{task}/status", self.status),
            ("PUT", f"{task}/cancel", self.cancel),
            ("GET", task, self.result),
            ("POST", "/{name:.+}", self.submit),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        detail: Any = _LOCKED if refused.fault is Fault.QUOTA else refused.message
        if status == 422:
            kind = refused.code or "value_error"
            if refused.fault in (Fault.REFUSED_INPUT, Fault.REFUSED_OUTPUT):
                kind = "content_policy_violation"
            loc = ["body", refused.param or "prompt"]
            detail = [{"loc": loc, "msg": refused.message, "type": kind, "input": None}]
        headers = {"x-fal-request-id": f"req_{call.number}"}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        return web.json_response({"detail": detail}, status=status, headers=headers)

    async def submit(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /{owner}/{app}[/path]`."""
        body = await read_json(request, call)
        name = request.match_info["name"]
        app = APPS.get(name)
        if app is None:
            raise Refused(Fault.UNKNOWN_MODEL, f"Application '{name}' not found")
        # The queue takes any input; the app looks at it later. It is told at once all the same.
        check(body, app.fields, *app.required)
        tokens = await self.take(call, model=name, prompt=body["prompt"])
        made = _made(tokens, body)
        if self.succeeds(call) and "late-refusal" not in tokens:
            self.charge(call, len(made), app.price * len(made))

        sitting = _sitting(name, body)

        async def make(asking: web.Request) -> dict[str, Any]:
            return await self._result(asking, tokens, sitting, made)

        task = await self.enqueue(call, make)
        owner, alias = name.split("/")[:2]
        home = f"{request.scheme}://{request.host}/{self.name}/{owner}/{alias}/requests/{task.id}"
        payload = {
            "request_id": task.id,
            "response_url": home,
            "status_url": f"{home}/status",
            "cancel_url": f"{home}/cancel",
            "status": "IN_QUEUE",
            "queue_position": 0,
        }
        return await self.answer(request, call, payload)

    async def status(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET status_url`."""
        task = self.look(call, request.match_info["id"])
        if task is None:
            raise Refused(Fault.UNKNOWN_MODEL, "Request not found")
        if task.open:
            first = task.polls == 1
            waiting = {"status": "IN_QUEUE", "queue_position": 0}
            running = {"status": "IN_PROGRESS", "logs": []}
            return web.json_response(waiting if first else running, status=202)
        payload: dict[str, Any] = {
            "status": "COMPLETED",
            "logs": [],
            "metrics": {"inference_time": 0.5},
        }
        if "fail" in task.tokens:
            payload |= {"error": "The runner crashed", "error_type": "internal_error"}
        return await self.answer(request, call, payload)

    async def result(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET response_url`."""
        task = self.tasks.get(request.match_info["id"])
        call.tokens = self._tokens(call)
        if task is None or "lost" in task.tokens:
            raise Refused(Fault.UNKNOWN_MODEL, "Request not found")
        if task.open:
            return web.json_response({"detail": "Request is still in progress"}, status=400)
        if "fail" in task.tokens:
            raise Refused(Fault.BROKEN, "Internal Server Error")
        if "late-refusal" in task.tokens:
            raise Refused(Fault.REFUSED_INPUT, "The content was flagged by a content checker.")
        return await self.answer(request, call, await task.done(request))

    async def cancel(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `PUT cancel_url`."""
        task = self.tasks.get(request.match_info["id"])
        if task is None:
            return web.json_response({"status": "NOT_FOUND"}, status=404)
        if not task.open:
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        task.cancelled = True
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    async def _result(
        self, request: web.Request, tokens: Tokens, sitting: Sitting, made: Sequence[int]
    ) -> dict[str, Any]:
        images = []
        for index in made:
            url = await self.url(request, tokens, replace(sitting, index=index))
            images.append(
                {
                    "url": url,
                    "width": sitting.width,
                    "height": sitting.height,
                    "content_type": "image/jpeg",
                }
            )
        withheld = tokens.text("refuse") == "output"
        shown = {"image": images[0]} if "single" in tokens and images else {"images": images}
        return {
            **shown,
            "seed": sitting.seed or 7,
            "has_nsfw_concepts": [withheld] * len(images),
            "prompt": sitting.prompt,
            "timings": {},
        }


def _made(tokens: Tokens, body: Mapping[str, Any]) -> list[int]:
    count = 0 if "empty" in tokens else body.get("num_images", 1)
    return [index for index in range(count) if tokens.makes(index)]


def _sitting(name: str, body: Mapping[str, Any]) -> Sitting:
    width, height = 1024, 1024
    match body.get("image_size"):
        case {"width": int(width), "height": int(height)}:
            pass
        case str() as preset:
            width, height = _PRESETS[preset]
    if (ratio := body.get("aspect_ratio", "auto")) != "auto":
        edge = {"1K": 1024, "2K": 2048, "4K": 4096}[body.get("resolution", "1K")]
        width, height = pixels(ratio, edge)
    return Sitting(
        model=name,
        prompt=body["prompt"],
        width=width,
        height=height,
        seed=body.get("seed"),
        format=body.get("output_format", APPS[name].format),
    )
