"""Z.AI (Zhipu BigModel): pictures by URL only, at once or as a task; errors are numbers in strings.

More tokens of this dialect, beside those of `queued`:

    [[code:1304]]   that business code, with the status that belongs to it
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.dialects.dialect import Route, read_json
from tests.upstream.dialects.queued import Queued
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import boolean, check, choice, text
from tests.upstream.pictures import Sitting
from tests.upstream.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model accepts, and its USD per picture."""

    least: int
    step: int
    most_pixels: int
    size: str
    queued: bool
    price: float


MODELS = {
    "glm-image": Model(
        least=1024, step=32, most_pixels=1 << 22, size="1280x1280", queued=True, price=0.015
    ),
    "cogview-4-250304": Model(
        least=512, step=16, most_pixels=1 << 21, size="1024x1024", queued=False, price=0.01
    ),
    "cogview-3-flash": Model(
        least=512, step=16, most_pixels=1 << 21, size="1024x1024", queued=False, price=0.0
    ),
}
_FIELDS = {
    "model": text(64),
    "prompt": text(1_000_000, 0),
    "quality": choice("hd", "standard"),
    "size": text(16),
    "watermark_enabled": boolean,
    "user_id": text(128, 6),
    "request_id": text(128, 6),
}
_MAX_PROMPT = 4000
_MAX_EDGE = 2048
_CODES = {
    Fault.INVALID: ("1214", 400),
    Fault.UNAUTHORIZED: ("1001", 401),
    Fault.QUOTA: ("1113", 429),
    Fault.FORBIDDEN: ("1220", 403),
    Fault.UNKNOWN_MODEL: ("1211", 400),
    Fault.RATE_LIMITED: ("1302", 429),
    Fault.BROKEN: ("500", 500),
    Fault.UNAVAILABLE: ("1234", 500),
    Fault.OVERLOADED: ("1312", 429),
    Fault.TIMED_OUT: ("1234", 500),
    Fault.REFUSED_INPUT: ("1301", 400),
    Fault.REFUSED_OUTPUT: ("1301", 400),
}
_STATUSES = {"10": 401, "11": 401, "1113": 429, "12": 400, "13": 429, "1300": 400, "1301": 400}


class ZAI(Queued):
    """`/zai/api/paas/v4/…`."""

    def routes(self) -> Sequence[Route]:
        base = "/api/paas/v4"
        return (
            ("POST", f"{base}/images/generations", self.generations),
            ("POST", f"{base}/async/images/generations", self.submit),
            ("GET", f"{base}/async-result/{{id}}", self.poll),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        code, status = _CODES[refused.fault]
        if refused.code is not None and refused.code.isdigit():
            code = refused.code
            status = _STATUSES.get(code) or _STATUSES[code[:2]]
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        body = {"error": {"code": code, "message": refused.message}}
        return web.json_response(body, status=status, headers=headers)

    async def generations(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images/generations`."""
        body = await read_json(request, call)
        model = _read(body)
        tokens = await self.begin(call, model=body["model"], prompt=body["prompt"])
        _refuse_by_code(tokens)
        if tokens.text("refuse") == "output":
            raise Refused(Fault.REFUSED_OUTPUT, "The picture may be sensitive.")
        blank = "empty" in tokens
        self.charge(call, 0 if blank else 1, 0.0 if blank else model.price)
        payload = {
            "created": 1_793_000_000,
            "id": f"2026{call.number:012}",
            "request_id": body.get("request_id", f"2026{call.number}"),
            "data": [] if blank else await self._results(request, tokens, body),
            "content_filter": [{"role": "assistant", "level": 3}],
        }
        return await self.answer(request, call, payload)

    async def submit(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /async/images/generations`."""
        body = await read_json(request, call)
        model = _read(body)
        if not model.queued:
            raise Refused(Fault.INVALID, "The method is not supported.", code="1212")
        tokens = await self.take(call, model=body["model"], prompt=body["prompt"])
        _refuse_by_code(tokens)
        self._refuse_twin(body.get("request_id"))
        if self.succeeds(call) and "empty" not in tokens:
            self.charge(call, 1, model.price)

        async def make(asking: web.Request) -> dict[str, Any]:
            blank = "empty" in tokens
            return {"image_result": [] if blank else await self._results(asking, tokens, body)}

        task = await self.enqueue(call, make, task_id=body.get("request_id"))
        return await self.answer(request, call, self._state(task.id, body["model"], "PROCESSING"))

    async def poll(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /async-result/{id}`."""
        task = self.look(call, request.match_info["id"])
        if task is None:
            raise Refused(Fault.INVALID, "The task does not exist.", code="1210")
        state = self._state(task.id, "glm-image", "PROCESSING")
        if not task.open:
            if task.refused == "output":
                raise Refused(Fault.REFUSED_OUTPUT, "The picture may be sensitive.")
            failed = "fail" in task.tokens
            state["task_status"] = "FAIL" if failed else "SUCCESS"
            state |= {} if failed else await task.done(request)
        return await self.answer(request, call, state)

    async def _results(
        self, request: web.Request, tokens: Tokens, body: Mapping[str, Any]
    ) -> list[dict[str, str]]:
        width, height = _size(body, MODELS[body["model"]])
        sitting = Sitting(
            model=body["model"],
            prompt=body["prompt"],
            width=width,
            height=height,
            watermark=body.get("watermark_enabled", True),
        )
        return [{"url": await self.url(request, tokens, sitting, lifetime=30 * 86_400.0)}]

    def _refuse_twin(self, request_id: str | None) -> None:
        task = self.tasks.get(request_id or "")
        if task is not None and task.open:
            raise Refused(Fault.INVALID, "The request_id is in use.", code="1231")

    def _state(self, task_id: str, model: str, status: str) -> dict[str, Any]:
        return {"id": task_id, "request_id": task_id, "model": model, "task_status": status}


def _read(body: Mapping[str, Any]) -> Model:
    check(body, _FIELDS, "model", "prompt")
    model = MODELS.get(body["model"])
    if model is None:
        raise Refused(Fault.UNKNOWN_MODEL, "The model does not exist.")
    if not body["prompt"]:
        raise Refused(Fault.INVALID, "The prompt must not be empty.", code="1213")
    if len(body["prompt"]) > _MAX_PROMPT:
        raise Refused(Fault.INVALID, "The prompt is too long.", code="1261")
    _size(body, model)
    return model


def _size(body: Mapping[str, Any], model: Model) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{3,4})x(\d{3,4})", body.get("size", model.size))
    if match is None:
        raise Refused(Fault.INVALID, "The size is not valid.", param="size")
    width, height = int(match[1]), int(match[2])
    edges = all(
        edge % model.step == 0 and model.least <= edge <= _MAX_EDGE for edge in (width, height)
    )
    # The presets of glm-image go down to 960.
    preset = model.step == 32 and match[0] in {"1728x960", "960x1728"}
    if width * height > model.most_pixels or not (edges or preset):
        raise Refused(Fault.INVALID, "The size is not supported.", param="size")
    return width, height


def _refuse_by_code(tokens: Tokens) -> None:
    if (code := tokens.text("code")) is not None:
        raise Refused(Fault.INVALID, "The fake upstream was asked for this code.", code=code)
