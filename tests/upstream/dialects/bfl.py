"""Black Forest Labs: one picture per task, polled at the URL it gave, told in credits.

More tokens of this dialect, beside those of `queued`:

    [[elsewhere:URL]]   the polling URL starts with that instead of this server's address
    [[broken]]          the task ends as Error instead of Failed
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Route, read_json
from tests.upstream.dialects.queued import Queued, Task
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import (
    Check,
    boolean,
    check,
    choice,
    number,
    opened,
    picture,
    text,
    whole,
)
from tests.upstream.pictures import Sitting


CREDIT = 0.01
MAX_OPEN = 24
_SAMPLE_SECONDS = 600.0
_IMAGE = picture(bare=True)
_COMMON: dict[str, Check] = {
    "seed": whole(0, 2**32 - 1),
    "output_format": choice("jpeg", "png", "webp"),
}
_RATIOS = ["21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16", "9:21"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one endpoint accepts, and its credits per picture."""

    fields: Mapping[str, Check]
    required: tuple[str, ...] = ("prompt",)
    credits: float
    credits_of_edit: float | None = None
    format: str = "jpeg"
    most_pixels: int = 4_000_000


def _flux2(images: int, **more: Check) -> dict[str, Check]:
    return {
        **_COMMON,
        "prompt": text(10_000),
        "safety_tolerance": whole(0, 5),
        "width": whole(64, 4096, 16),
        "height": whole(64, 4096, 16),
        **dict.fromkeys(_numbered(images), _IMAGE),
        **more,
    }


def _numbered(count: int) -> list[str]:
    return ["input_image", *(f"input_image_{n}" for n in range(2, count + 1))]


_KONTEXT: dict[str, Check] = {
    **_COMMON,
    "prompt": text(10_000),
    "safety_tolerance": whole(0, 6),
    "aspect_ratio": choice(*_RATIOS),
    "prompt_upsampling": boolean,
    **dict.fromkeys(_numbered(4), _IMAGE),
}
_FILL: dict[str, Check] = {
    **_COMMON,
    "prompt": text(10_000, 0),
    "safety_tolerance": whole(0, 6),
    "image": _IMAGE,
    "mask": _IMAGE,
    "steps": whole(15, 50),
    "guidance": number(1.5, 100),
}
_ULTRA: dict[str, Check] = {
    **_COMMON,
    "prompt": text(10_000),
    "safety_tolerance": whole(0, 6),
    "aspect_ratio": choice(*_RATIOS),
    "raw": boolean,
    "image_prompt": _IMAGE,
    "image_prompt_strength": number(0, 1),
    "prompt_upsampling": boolean,
}
ENDPOINTS = {
    "flux-2-pro": Endpoint(fields=_flux2(8), credits=3.0, credits_of_edit=4.5),
    "flux-2-max": Endpoint(fields=_flux2(8), credits=7.0),
    "flux-2-flex": Endpoint(
        fields=_flux2(8, guidance=number(1.5, 10), steps=whole(1, 50), prompt_upsampling=boolean),
        credits=5.0,
    ),
    "flux-2-klein-9b": Endpoint(fields=_flux2(4), credits=1.5),
    "flux-2-klein-4b": Endpoint(fields=_flux2(4), credits=1.4),
    "flux-kontext-pro": Endpoint(fields=_KONTEXT, credits=4.0, format="png"),
    "flux-kontext-max": Endpoint(fields=_KONTEXT, credits=8.0, format="png"),
    "flux-pro-1.1-ultra": Endpoint(fields=_ULTRA, credits=6.0),
    "flux-pro-1.0-fill": Endpoint(fields=_FILL, required=("image",), credits=5.0),
}
_UNKNOWN = "Not authenticated - Invalid Authentication"
_STATUSES = {Fault.INVALID: 422, Fault.UNAUTHORIZED: 403}


class BFL(Queued):
    """`/bfl/v1/…`."""

    moderates_at_once = False

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("x-key")

    def routes(self) -> Sequence[Route]:
        return (
            ("GET", "/v1/get_result", self.poll),
            ("GET", "/v1/credits", self.credits),
            ("POST", "/v1/{endpoint}", self.submit),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        known = refused.fault is not Fault.UNAUTHORIZED
        body: dict[str, Any] = {"detail": refused.message if known else _UNKNOWN}
        if refused.fault is Fault.INVALID:
            loc = ["body", *filter(None, [refused.param])]
            body["detail"] = [{"loc": loc, "msg": refused.message, "type": refused.code}]
        if refused.retry_after is not None:
            body["retry_after"] = refused.retry_after
        return web.json_response(body, status=status)

    async def submit(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /v1/{endpoint}`."""
        body = await read_json(request, call)
        name = request.match_info["endpoint"]
        endpoint = ENDPOINTS.get(name)
        if endpoint is None:
            raise Refused(Fault.UNKNOWN_MODEL, "Not Found")
        check(body, endpoint.fields, *endpoint.required)
        width, height = _pixels(body, endpoint)
        if self.count_open(call.key) >= MAX_OPEN:
            raise Refused(Fault.RATE_LIMITED, "Too many active tasks.", retry_after=1)
        tokens = await self.take(call, model=name, prompt=body.get("prompt", ""))
        edit = endpoint.credits_of_edit is not None and "input_image" in body
        price = (endpoint.credits_of_edit if edit else None) or endpoint.credits
        charged = self.charge(call, 1, price * CREDIT) if self.succeeds(call) else 0.0
        sitting = _sitting(name, body, (width, height))

        async def make(asking: web.Request) -> dict[str, Any]:
            if "empty" in tokens:
                return {"sample": None}
            url = await self.url(asking, tokens, sitting, lifetime=_SAMPLE_SECONDS)
            return {"sample": url, "prompt": sitting.prompt, "seed": body.get("seed", 42)}

        task = await self.enqueue(call, make)
        home = tokens.text("elsewhere") or f"{request.scheme}://{request.host}"
        megapixels = width * height / 1_000_000
        payload = {
            "id": task.id,
            "polling_url": f"{home}/{self.name}/v1/get_result?id={task.id}",
            "cost": round(charged / CREDIT, 6) if self.succeeds(call) else price,
            "input_mp": 0,
            "output_mp": round(megapixels, 2),
        }
        return await self.answer(request, call, payload)

    async def poll(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /v1/get_result`."""
        task_id = request.query.get("id", "")
        task = self.look(call, task_id)
        if task is None:
            return web.json_response({"id": task_id, "status": "Task not found", "result": None})
        status = _status(task)
        payload = {
            "id": task.id,
            "status": status,
            "result": await task.done(request) if status == "Ready" else None,
            "progress": None,
            "details": {"Moderation Reasons": ["Derivative"]} if "Moderated" in status else None,
            "preview": None,
        }
        return await self.answer(request, call, payload)

    async def credits(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /v1/credits`."""
        return web.json_response({"credits": 1000.0})


def _status(task: Task) -> str:
    if task.open:
        return "Pending"
    if task.refused is not None:
        return "Request Moderated" if task.refused == "input" else "Content Moderated"
    if "fail" in task.tokens:
        return "Error" if "broken" in task.tokens else "Failed"
    return "Ready"


def _pixels(body: Mapping[str, Any], endpoint: Endpoint) -> tuple[int, int]:
    """Return the size of the picture, after checking what the fields together must hold."""
    if "image" in body:
        image = opened(body["image"])
        if "mask" in body and opened(body["mask"]).size != image.size:
            raise Refused(Fault.INVALID, "The mask must have the size of the image.", param="mask")
        return image.size
    if (ratio := body.get("aspect_ratio")) is not None:
        wide, tall = (int(part) for part in ratio.split(":"))
        return round(math.sqrt(wide / tall) * 1024), round(math.sqrt(tall / wide) * 1024)
    width, height = body.get("width", 1024), body.get("height", 1024)
    if width * height > endpoint.most_pixels:
        raise Refused(Fault.INVALID, "The size is over 4 megapixels.", param="width")
    return int(width), int(height)


def _sitting(name: str, body: Mapping[str, Any], size: tuple[int, int]) -> Sitting:
    return Sitting(
        model=name,
        prompt=body.get("prompt", ""),
        width=size[0],
        height=size[1],
        seed=body.get("seed"),
        format=body.get("output_format", ENDPOINTS[name].format),
    )
