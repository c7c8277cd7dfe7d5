"""OpenAI's image API: generations, edits in both encodings, streams; and its Azure likeness.

More tokens of this dialect:

    [[url]] [[relative-url]]          results by URL, or by a path of this server (local models)
    [[error:string]] [[error:detail]] faults as `{"error": "text"}` or `{"detail": "text"}`
    [[no-retry]]                      faults say `x-should-retry: false`
    [[no-stream]]                     a server that does not stream, whatever is asked
    [[early-end:1]] [[error-event:1]] a stream ends, or fails, after that many pictures
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from yarl import URL

from tests.upstream.calls import Call
from tests.upstream.delivery import UNSTREAMED, Events
from tests.upstream.dialects.dialect import Dialect, Route, read_form, read_json
from tests.upstream.dialects.openai_request import (
    MODELS,
    Asked,
    count_parts,
    count_references,
    read,
    unstrung,
)
from tests.upstream.faults import Fault, Refused
from tests.upstream.tokens import Tokens


_UNSTREAMED = UNSTREAMED | {"no-stream"}
_STATUSES = {Fault.REFUSED_INPUT: 400, Fault.REFUSED_OUTPUT: 400, Fault.QUOTA: 429}
_CODES = {
    Fault.INVALID: ("invalid_request_error", "invalid_value"),
    Fault.UNAUTHORIZED: ("invalid_request_error", "invalid_api_key"),
    Fault.FORBIDDEN: ("invalid_request_error", None),
    Fault.QUOTA: ("insufficient_quota", "insufficient_quota"),
    Fault.UNKNOWN_MODEL: ("invalid_request_error", "model_not_found"),
    Fault.RATE_LIMITED: ("requests", "rate_limit_exceeded"),
    Fault.REFUSED_INPUT: ("image_generation_user_error", "moderation_blocked"),
    Fault.REFUSED_OUTPUT: ("image_generation_user_error", "moderation_blocked"),
}


class OpenAI(Dialect):
    """`/openai/v1/…`."""

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/v1/images/generations", self.generations),
            ("POST", "/v1/images/edits", self.edits),
            ("POST", "/v1/images/variations", self.variations),
            ("GET", "/v1/models", self.models),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        headers = {}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        if "no-retry" in call.tokens:
            headers["x-should-retry"] = "false"
        match call.tokens.text("error"):
            case "string":
                body: dict[str, Any] = {"error": refused.message}
            case "detail":
                body = {"detail": refused.message}
            case _:
                body = {"error": _error(refused)}
        return web.json_response(body, status=status, headers=headers)

    async def generations(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images/generations`."""
        body = await read_json(request, call)
        return await self._make(request, call, read(body, self._model(request, body)))

    async def edits(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /images/edits`, multipart or JSON."""
        if request.content_type == "application/json":
            body = await read_json(request, call)
            sources = count_references(body)
        else:
            fields, parts = await read_form(request, call)
            body = unstrung(fields)
            sources = count_parts(parts)
        asked = read(body, self._model(request, body), sources=sources)
        return await self._make(request, call, asked)

    async def variations(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Refuse: the only model of this route is gone."""
        raise Refused(Fault.UNKNOWN_MODEL, "The model `dall-e-2` is deprecated.", param="model")

    async def models(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /models`."""
        data = [{"id": name, "object": "model", "owned_by": "openai"} for name in MODELS]
        return web.json_response({"object": "list", "data": data})

    def _model(self, request: web.Request, body: Mapping[str, Any]) -> str:
        model = body.get("model")
        if not isinstance(model, str):
            raise Refused(Fault.INVALID, "you must provide a model parameter", param="model")
        return model

    async def _make(self, request: web.Request, call: Call, asked: Asked) -> web.StreamResponse:
        tokens = await self.begin(call, model=asked.model, prompt=asked.prompt)
        if tokens.text("refuse") == "output":
            raise Refused(Fault.REFUSED_OUTPUT, "Your request was rejected by the safety system.")
        blank = "empty" in tokens or "text-only" in tokens
        made = [i for i in range(asked.n) if tokens.makes(i) and not blank]
        self.charge(call, len(made), asked.cost(len(made)))
        if asked.stream and not _UNSTREAMED & tokens.arguments.keys():
            return await self._stream(request, call, asked, made)
        if "bytes" in tokens:
            return await self.answer(request, call, await self._heavy(tokens, asked))
        items = [await self._item(request, tokens, asked, index) for index in made]
        return await self.answer(request, call, _reply(asked, items))

    async def _heavy(self, tokens: Tokens, asked: Asked) -> bytes:
        item = {"b64_json": await self.base64(tokens, asked.sitting(0))}
        key = (asked.model, tokens.text("bytes"), asked.n, str(asked.echo()), len(asked.prompt))
        return self.premade(key, lambda: _reply(asked, [item] * asked.n))

    async def _item(
        self, request: web.Request, tokens: Tokens, asked: Asked, index: int
    ) -> dict[str, str]:
        sitting = asked.sitting(index)
        if not asked.by_url and "url" not in tokens and "relative-url" not in tokens:
            return {"b64_json": await self.base64(tokens, sitting)}
        url = await self.url(request, tokens, sitting, lifetime=3600.0)
        return {"url": URL(url).raw_path_qs if "relative-url" in tokens else url}

    async def _stream(
        self, request: web.Request, call: Call, asked: Asked, made: list[int]
    ) -> web.StreamResponse:
        kind = "image_edit" if asked.edit else "image_generation"
        async with Events(request, call.tokens) as events:
            for place, index in enumerate(made):
                await self._send_partials(events, call.tokens, asked, index, kind)
                if "early-end" in call.tokens and place >= call.tokens.number("early-end", 0):
                    break
                if "error-event" in call.tokens and place >= call.tokens.number("error-event", 0):
                    error = {"type": "server_error", "code": None, "message": "The server broke."}
                    await events.send({"type": "error", "error": error}, event="error")
                    break
                completed = {
                    "type": f"{kind}.completed",
                    "b64_json": await self.base64(call.tokens, asked.sitting(index)),
                    "created_at": 1_793_000_000,
                    **asked.echo(),
                    "usage": _share(asked, len(made), first=index == made[0]),
                }
                await events.send(completed, event=f"{kind}.completed")
            return events.response

    async def _send_partials(
        self, events: Events, tokens: Tokens, asked: Asked, index: int, kind: str
    ) -> None:
        for number in range(asked.partial_images):
            partial = {
                "type": f"{kind}.partial_image",
                "b64_json": await self.base64(tokens, asked.sitting(index, draft=number + 1)),
                "created_at": 1_793_000_000,
                **asked.echo(),
                "partial_image_index": number,
            }
            await events.send(partial, event=f"{kind}.partial_image")


class Azure(OpenAI):
    """`/azure/openai/deployments/{name}/…?api-version=…` and `/azure/openai/v1/…`."""

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("api-key")

    def routes(self) -> Sequence[Route]:
        old, new = "/openai/deployments/{deployment}/images", "/openai/v1/images"
        return (
            ("POST", f"{old}/generations", self.generations),
            ("POST", f"{old}/edits", self.edits),
            ("POST", f"{new}/generations", self.generations),
            ("POST", f"{new}/edits", self.edits),
        )

    def _model(self, request: web.Request, body: Mapping[str, Any]) -> str:
        deployment = request.match_info.get("deployment")
        if deployment is None:
            return super()._model(request, body)
        if "api-version" not in request.query:
            raise Refused(Fault.UNKNOWN_MODEL, "Resource not found", code="404")
        return deployment


def _error(refused: Refused) -> dict[str, Any]:
    kind, code = _CODES.get(refused.fault, ("server_error", None))
    error: dict[str, Any] = {
        "message": refused.message,
        "type": kind,
        "param": refused.param,
        "code": refused.code or code,
    }
    if code == "moderation_blocked":
        stage = "input" if refused.fault is Fault.REFUSED_INPUT else "output"
        error["moderation_details"] = {"moderation_stage": stage, "categories": ["violence"]}
    return error


def _reply(asked: Asked, items: list[dict[str, str]]) -> dict[str, Any]:
    body = {"created": 1_793_000_000, "data": items, **asked.echo()}
    if asked.model in MODELS:
        body["usage"] = asked.usage(len(items))
    return body


def _share(asked: Asked, made: int, *, first: bool) -> dict[str, Any]:
    """Return the usage of one event such that the events sum up to the usage of the call."""
    usage = asked.usage(1)
    if not first:
        usage["total_tokens"] -= usage["input_tokens"]
        usage["input_tokens"] = 0
        usage["input_tokens_details"] = {"text_tokens": 0, "image_tokens": 0}
    return usage
