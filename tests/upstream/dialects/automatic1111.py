"""AUTOMATIC1111 and Forge: one picture after another behind one lock, base64 without a prefix.

More tokens of this dialect:

    [[grid]]     a grid of all pictures comes before them
    [[memory]]   500, out of memory
"""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Dialect, Route, World, read_json
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import (
    Check,
    boolean,
    check,
    choice,
    mapping,
    number,
    opened,
    picture,
    text,
    whole,
)
from tests.upstream.pictures import Sitting


_FIELDS: dict[str, Check] = {
    "prompt": text(100_000, 0),
    "negative_prompt": text(100_000, 0),
    "steps": whole(1, 150),
    "cfg_scale": number(1, 30),
    "width": whole(64, 2048),
    "height": whole(64, 2048),
    "seed": whole(-1, 2**32 - 1),
    "batch_size": whole(1, 8),
    "n_iter": whole(1, 100),
    "sampler_name": text(64),
    "scheduler": text(64),
    "denoising_strength": number(0, 1),
    "override_settings": mapping,
    "override_settings_restore_afterwards": boolean,
    "send_images": boolean,
    "save_images": boolean,
    "force_task_id": text(128),
}
_ANYTHING = picture(100_000_000, bare=True, url=False)


def _sources(value: object) -> str | None:
    good = isinstance(value, list) and all(_ANYTHING(item) is None for item in value)
    return None if good else "Input should be a list of images"


_IMG2IMG: dict[str, Check] = {
    **_FIELDS,
    "init_images": _sources,
    "mask": _ANYTHING,
    "mask_blur": whole(0, 64),
    "inpainting_fill": choice(0, 1, 2, 3),
    "inpaint_full_res": boolean,
    "inpaint_full_res_padding": whole(0, 256),
    "inpainting_mask_invert": choice(0, 1),
    "resize_mode": choice(0, 1, 2, 3),
    "include_init_images": boolean,
}
_STATUSES = {Fault.INVALID: 422, Fault.REFUSED_INPUT: 422, Fault.REFUSED_OUTPUT: 422}
_OPEN = "nobody"


class Automatic1111(Dialect):
    """`/automatic1111/sdapi/v1/…`; the key is `user:password`, or there is none."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world)
        self._lock = asyncio.Lock()

    def key(self, request: web.Request) -> str | None:
        scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(coded).decode() if scheme == "Basic" else _OPEN

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/sdapi/v1/txt2img", self.txt2img),
            ("POST", "/sdapi/v1/img2img", self.img2img),
            ("GET", "/sdapi/v1/progress", self.progress),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        body: dict[str, Any] = {"detail": refused.message}
        if status == 422:
            loc = ["body", *filter(None, [refused.param])]
            body = {"detail": [{"loc": loc, "msg": refused.message, "type": refused.code}]}
        elif status == 500:
            kind = "OutOfMemoryError" if "memory" in call.tokens else "RuntimeError"
            body = {"error": kind, "detail": "", "body": "", "errors": refused.message}
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        return web.json_response(body, status=status, headers=headers)

    async def txt2img(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /txt2img`."""
        body = await read_json(request, call)
        check(body, _FIELDS)
        size = int(body.get("width", 512)), int(body.get("height", 512))
        return await self._make(request, call, body, size)

    async def img2img(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /img2img`."""
        body = await read_json(request, call)
        check(body, _IMG2IMG)
        if not body.get("init_images"):
            raise Refused(Fault.UNKNOWN_MODEL, "Init image not found")
        first = opened(body["init_images"][0])
        if "mask" in body and opened(body["mask"]).mode not in ("L", "RGB"):
            raise Refused(Fault.BROKEN, "The mask must be white on black")
        size = int(body.get("width", 512)), int(body.get("height", 512))
        return await self._make(request, call, body, size if "width" in body else first.size)

    async def progress(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /progress`."""
        busy = self._lock.locked()
        state = {"job": "task", "job_count": int(busy), "sampling_step": 8 if busy else 0}
        return web.json_response(
            {
                "progress": 0.4 if busy else 0.0,
                "eta_relative": 3.1 if busy else 0.0,
                "state": state,
                "current_image": None,
                "textinfo": None,
            }
        )

    async def _make(
        self, request: web.Request, call: Call, body: Mapping[str, Any], size: tuple[int, int]
    ) -> web.StreamResponse:
        async with self._lock:
            loaded = body.get("override_settings", {}).get("sd_model_checkpoint", "checkpoint")
            tokens = await self.begin(call, model=loaded, prompt=body.get("prompt", ""))
            if "memory" in tokens:
                raise Refused(Fault.BROKEN, "CUDA out of memory.")
            count = body.get("batch_size", 1) * body.get("n_iter", 1)
            made = [i for i in range(count) if tokens.makes(i) and "empty" not in tokens]
            sitting = _sitting(body, size)
            images = [await self.base64(tokens, replace(sitting, index=i)) for i in made]
        self.charge(call, len(made), 0.0)
        if "grid" in tokens and len(images) > 1:
            grid = replace(sitting, width=size[0] * 2, height=size[1] * 2)
            images.insert(0, await self.base64(tokens, grid))
        seed = body.get("seed", 42)
        info = {"prompt": sitting.prompt, "seed": seed, "all_seeds": [seed + i for i in made]}
        payload = {"images": images, "parameters": {}, "info": json.dumps(info)}
        return await self.answer(request, call, payload)


def _sitting(body: Mapping[str, Any], size: tuple[int, int]) -> Sitting:
    return Sitting(
        model="checkpoint",
        prompt=body.get("prompt", ""),
        width=size[0],
        height=size[1],
        seed=body.get("seed"),
    )
