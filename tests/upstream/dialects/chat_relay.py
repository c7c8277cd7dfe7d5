"""A relay of the one-api family: pictures through chat completions, wherever it likes to put them.

More tokens of this dialect:

    [[shape:…]]      where the picture is; without it the model decides (`SHAPES`):
                       images, images-url, images-bare, images-b64   message.images[] of four kinds
                       parts, parts-source                           message.content as a list
                       markdown, markdown-url, links, download       message.content as a text
                       url, data-url, base64                         message.content is nothing else
                       message, message-b64, data                    other members
                       task, task-data                               a task to be asked for
    [[twice]]        the same picture twice, by two links
    [[thumbnail]]    a small one before the real one
    [[stream-only]]  a call that does not stream is refused
    [[unasked]]      the answer comes in one piece although a stream was asked for
    [[sorry]]        an apology in plain words, with status 200
    [[told-url]]     the answer says by a path where its task is asked for
    [[polls:3]]      that many polls find the task unfinished (1 without)
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.upstream.calls import Call
from tests.upstream.delivery import UNSTREAMED, Events
from tests.upstream.dialects.dialect import Route, read_json
from tests.upstream.dialects.queued import Queued
from tests.upstream.faults import Fault, Refused
from tests.upstream.fields import check, picture
from tests.upstream.pictures import Sitting
from tests.upstream.tokens import Tokens


SHAPES = {
    "gpt-4o-image": "links",
    "gemini-3.1-flash-image": "markdown",
    "gemini-3-pro-image": "images",
    "grok-3-image": "markdown-url",
    "flux-kontext-pro": "url",
    "gpt-image-2-chat": "images-url",
}
PRICE = 0.03
_BY_TASK = ("task", "task-data")
_IN_BASE64 = ("images", "images-bare", "images-b64", "parts-source", "markdown", "data-url")
_UNSTREAMED = UNSTREAMED | {"unasked"}
_SORRY = "I'm sorry, but I can't create that picture. Would you like to try something else?"
_CODES = {
    Fault.INVALID: ("invalid_request_error", "invalid_request"),
    Fault.UNAUTHORIZED: ("authentication_error", "invalid_api_key"),
    Fault.QUOTA: ("billing_error", "quota_exceeded"),
    Fault.FORBIDDEN: ("permission_error", "permission_denied"),
    Fault.UNKNOWN_MODEL: ("new_api_error", "model_not_found"),
    Fault.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    Fault.BROKEN: ("server_error", "internal_error"),
    Fault.UNAVAILABLE: ("server_error", "upstream_error"),
    Fault.OVERLOADED: ("server_error", "model_overloaded"),
    Fault.TIMED_OUT: ("server_error", "upstream_timeout"),
    Fault.REFUSED_INPUT: ("content_policy_error", "content_policy_violation"),
    Fault.REFUSED_OUTPUT: ("content_policy_error", "content_policy_violation"),
}
_STATUSES = {Fault.UNKNOWN_MODEL: 503, Fault.REFUSED_INPUT: 400, Fault.REFUSED_OUTPUT: 400}


class ChatRelay(Queued):
    """`/chat_relay/v1/…`."""

    def routes(self) -> Sequence[Route]:
        return (
            ("POST", "/v1/chat/completions", self.completions),
            ("GET", "/v1/tasks/{id}", self.poll),
        )

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        kind, code = _CODES[refused.fault]
        message = f"{refused.message} (request id: {call.number:020})"
        error = {"message": message, "type": kind, "param": refused.param or "", "code": code}
        headers = {}
        if refused.fault is Fault.RATE_LIMITED:
            headers = {"X-RateLimit-Limit": "3000", "X-RateLimit-Remaining": "0"}
        if refused.retry_after is not None:
            headers["Retry-After"] = f"{refused.retry_after:g}"
        status = _STATUSES.get(refused.fault) or int(refused.fault.value)
        return web.json_response({"error": error}, status=status, headers=headers)

    async def completions(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `POST /chat/completions`."""
        body = await read_json(request, call)
        model, prompt = _read(body)
        tokens = await self._begin(call, model, prompt)
        shape = tokens.text("shape") or SHAPES[model]
        if "stream-only" in tokens and not body.get("stream"):
            raise Refused(Fault.INVALID, "This model only supports stream mode.")
        words = _words(tokens)
        if words is None:
            self.charge(call, 1, PRICE)
        if shape in _BY_TASK and words is None:
            return await self._submit(request, call, shape)
        message = await self._message(request, call, shape) if words is None else _said(words)
        if shape == "data" and words is None:
            return await self.answer(request, call, {"created": 1, "data": message["images"]})
        finish = "content_filter" if tokens.text("refuse") == "output" else "stop"
        if body.get("stream") and not _UNSTREAMED & tokens.arguments.keys():
            return await self._stream(request, call, message, finish)
        return await self.answer(request, call, _completion(call, message, finish))

    async def poll(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer `GET /tasks/{id}`."""
        task = self.look(call, request.match_info["id"])
        if task is None:
            raise Refused(Fault.INVALID, "The task does not exist.", code="task_not_found")
        if task.open:
            payload: dict[str, Any] = {"task_id": task.id, "status": "processing"}
        elif "fail" in task.tokens:
            payload = {"task_id": task.id, "status": "failed", "error": {"message": "It broke."}}
        else:
            payload = {"task_id": task.id, "status": "completed", **(await task.done(request))}
        return await self.answer(request, call, payload)

    async def _begin(self, call: Call, model: str, prompt: str) -> Tokens:
        if "[[shape:task" in prompt:
            return await self.take(call, model=model, prompt=prompt)
        return await self.begin(call, model=model, prompt=prompt)

    async def _submit(self, request: web.Request, call: Call, shape: str) -> web.StreamResponse:
        async def make(asking: web.Request) -> dict[str, Any]:
            url = await self.url(asking, call.tokens, _sitting(call))
            return {"result": {"images": [{"url": [url], "expires_at": 1_793_000_000}]}}

        task = await self.enqueue(call, make, task_id=f"task_{uuid.uuid4().hex}")
        told = {"status": "submitted", "task_id": task.id}
        if "told-url" in call.tokens:
            told["poll_url"] = f"/{self.name}/v1/tasks/{task.id}?from=answer"
        payload = told if shape == "task" else {"code": 200, "data": [told]}
        return await self.answer(request, call, payload)

    async def _message(self, request: web.Request, call: Call, shape: str) -> dict[str, Any]:
        """Return the assistant's message with the picture in `shape`."""
        sitting, tokens = _sitting(call), call.tokens
        if shape in _IN_BASE64 or shape in ("base64", "message-b64"):
            coded = await self.base64(tokens, sitting)
            return _WITH_BYTES[shape](coded, f"data:{sitting.content_type};base64,{coded}")
        url = await self.url(request, tokens, sitting)
        if "thumbnail" in tokens:
            small = await self.url(request, tokens, replace(sitting, width=64, height=64))
            return _said(f"![preview]({small})\n\n![gen_1]({url})")
        if "twice" in tokens:
            again = await self.url(request, tokens, sitting)
            return _said(f"![gen_1]({url})\n![gen_1_copy]({again})")
        return _WITH_URL[shape](url)

    async def _stream(
        self, request: web.Request, call: Call, message: Mapping[str, Any], finish: str
    ) -> web.StreamResponse:
        def chunk(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return {
                "id": f"chatcmpl-{call.number}",
                "object": "chat.completion.chunk",
                "created": 1_793_000_000,
                "model": call.model,
                "choices": [choice],
            }

        content = message.get("content") or ""
        async with Events(request, call.tokens) as events:
            await events.comment("PROCESSING")
            await events.send(chunk({"role": "assistant", "content": ""}))
            if isinstance(content, str):
                step = max(1, -(-len(content) // 7))
                for start in range(0, len(content), step):
                    await events.send(chunk({"content": content[start : start + step]}))
            rest = {k: v for k, v in message.items() if k not in ("role", "content")}
            if not isinstance(content, str):
                rest["content"] = content
            if rest:
                await events.send(chunk(rest))
            await events.send(chunk({}, finish))
            await events.send("[DONE]")
            return events.response


def _read(body: Mapping[str, Any]) -> tuple[str, str]:
    """Check a request; return its model and its prompt."""
    model = body.get("model")
    if model not in SHAPES:
        message = f"No available channel for model {model} under group default"
        raise Refused(Fault.UNKNOWN_MODEL, message)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(Fault.INVALID, "field messages is required", param="messages")
    parts = messages[-1].get("content")
    if not isinstance(parts, list):
        raise Refused(Fault.INVALID, "images[0] must be an http/https URL or image data URI")
    words = []
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                words.append(text)
            case {"type": "image_url", "image_url": dict(image)}:
                check(image, {"url": picture()}, "url")
            case _:
                raise Refused(Fault.INVALID, "unknown content part", param="messages")
    if not words:
        raise Refused(Fault.INVALID, "a text part is required", param="messages")
    return str(model), words[0]


def _words(tokens: Tokens) -> str | None:
    """Return what is said instead of a picture."""
    if tokens.text("refuse") == "output":
        return "The picture was withheld: it goes against the content policy."
    if "sorry" in tokens:
        return _SORRY
    if "text-only" in tokens:
        return "A fine idea! Shall it be in oil or in watercolour?"
    return "" if "empty" in tokens else None


def _sitting(call: Call) -> Sitting:
    return Sitting(
        model=call.model or "",
        prompt=call.prompt or "",
        width=1024,
        height=1024,
    )


def _completion(call: Call, message: Mapping[str, Any], finish: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{call.number}",
        "object": "chat.completion",
        "created": 1_793_000_000,
        "model": call.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1290, "total_tokens": 1300},
    }


def _said(content: object, **others: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **others}


def _links(url: str) -> str:
    return (
        '```json\n{"prompt": "a picture", "ratio": "1:1"}\n```\n\n> queued.\n\n> drawing 30%\n\n'
        f"> done\n\n![gen_1]({url})\n\n[download]({url}&dl=1)"
    )


_WITH_BYTES: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "images": lambda _, url: _said(
        "", images=[{"type": "image_url", "image_url": {"url": url}, "index": 0}]
    ),
    "images-bare": lambda _, url: _said("", images=[url]),
    "images-b64": lambda coded, _: _said("", images=[{"b64_json": coded}]),
    "parts-source": lambda coded, _: _said(
        [
            {"type": "text", "text": "Here it is."},
            {"type": "image", "source": {"type": "base64", "data": coded}},
        ]
    ),
    "markdown": lambda _, url: _said(f"![image]({url})"),
    "data-url": lambda _, url: _said(url),
    "base64": lambda coded, _: _said(coded),
    "message-b64": lambda coded, _: _said("", image_b64_json=coded),
}
_WITH_URL: dict[str, Callable[[str], dict[str, Any]]] = {
    "images-url": lambda url: _said("", images=[{"image_url": url}]),
    "parts": lambda url: _said([{"type": "image_url", "image_url": {"url": url}}]),
    "markdown-url": lambda url: _said(f"![gen]({url})"),
    "links": lambda url: _said(_links(url)),
    "download": lambda url: _said(f"Done. [download]({url})"),
    "url": _said,
    "message": lambda url: _said("", image_url=url),
    "data": lambda url: _said("", images=[{"url": url}]),
}
