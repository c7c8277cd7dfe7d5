"""Relays that sell pictures through chat completions: Apertis, the one-api and new-api families.

There is no field for a size, so a ratio is said in words beside the prompt. The answer is streamed
unless told otherwise, since many stand behind a proxy that gives up on silence after 100 seconds.
A relay may answer with a task instead of a picture; then it is polled.

What a deployment's `options` may say:

    stream = false             ask for the answer in one piece
    image_config = true        say ratio and tier in `extra_body.google.image_config` too (new-api)
    task_path = "/tasks/{id}"  where a task is asked for, if the answer does not say
    poll_seconds = 0.5         the first pause between two polls
    body = {…}                 further fields for every request

An order's options are further fields too; neither can replace what an order says by itself.
"""

import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from yarl import URL

from storage.attempt import Usage
from storage.catalog import Deployment
from storage.container import inspect
from storage.facts import BadImage
from storage.failure import Failure, FailureCode
from worker import wire
from worker.chat_reply import ChatReply, references
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.polling import Polling, Ticket
from worker.provider import Order, Picture, Progress, ProviderError, Reply, Tools
from worker.reply import NO_IMAGE, decoded, replied
from worker.sse import sse
from worker.upstream import Upstream, file_room, room


TASK_PATH: Final = "/tasks/{id}"
MAX_FETCHES: Final = 8
_PATH: Final = "/chat/completions"
_RESERVED: Final = frozenset({"model", "messages", "stream"})
_CODES: Final = {
    "authentication_error": FailureCode.AUTH,
    "billing_error": FailureCode.BILLING,
    "quota_exceeded": FailureCode.BILLING,
    "insufficient_user_quota": FailureCode.BILLING,
    "insufficient_quota": FailureCode.BILLING,
    "permission_error": FailureCode.PERMISSION,
    "model_not_found": FailureCode.MODEL_NOT_FOUND,
    "content_policy_error": FailureCode.CONTENT_POLICY,
    "content_policy_violation": FailureCode.CONTENT_POLICY,
    "moderation_blocked": FailureCode.CONTENT_POLICY,
    "rate_limit_error": FailureCode.RATE_LIMITED,
    "model_overloaded": FailureCode.OVERLOADED,
}
_POLICY: Final = re.compile(
    r"content.?polic|usage polic|violat|safety system|moderation|prohibited|违规|敏感|审核",
    re.IGNORECASE,
)
_NO_CHANNEL: Final = re.compile(r"no available channel|无可用渠道", re.IGNORECASE)
_ENDED_WELL: Final = frozenset(
    {"success", "succeed", "succeeded", "completed", "complete", "finished", "done", "ready"}
)
_ENDED_BADLY: Final = frozenset(
    {"fail", "failed", "failure", "error", "cancelled", "canceled", "expired", "rejected"}
)
_UNFETCHED: Final = Failure(
    code=FailureCode.UPSTREAM_ERROR, message="The upstream's image could not be fetched."
)


class ChatRelay:
    """Generates, and edits with pictures as parts of the message."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._options = deployment.options
        self._base = deployment.base_url
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )
        self._polling = Polling(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        said = ChatReply()
        async with self._upstream.stream(
            "POST", _PATH, json=self._fields(order), limit=room(order), prompt=order.prompt
        ) as stream:
            if stream.headers.get("Content-Type", "").startswith("text/event-stream"):
                body = await self._hear(stream, said, order)
            else:
                body = await self._read(await stream.read(), said, order)
        if not body.get("choices") and (ticket := _ticket(body, self._base)) is not None:
            await progress.submitted(str(ticket))
            return await self._finish(order, ticket)
        return await self._reply(order, said)

    async def resume(self, order: Order, upstream_id: str, progress: Progress) -> Reply:
        return await self._finish(order, Ticket.read(upstream_id))

    # -- asking ----------------------------------------------------------------------------------

    def _fields(self, order: Order) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": order.prompt}]
        if order.aspect_ratio is not None:
            parts.append({"type": "text", "text": f"Aspect ratio: {order.aspect_ratio}"})
        for source in order.images:
            url = wire.data_url(source.data, source.content_type)
            parts.append({"type": "image_url", "image_url": {"url": url}})
        config = {"aspect_ratio": order.aspect_ratio, "image_size": order.resolution}
        google = {"google": {"image_config": {k: v for k, v in config.items() if v}}}
        asked = {
            "model": order.model,
            "messages": [{"role": "user", "content": parts}],
            "stream": bool(self._options.get("stream", True)),
            "extra_body": google if self._options.get("image_config") else None,
        }
        further = self._options.get("body", {})
        return fields(asked, further, order.options, reserved=_RESERVED)

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, text: bytes, said: ChatReply, order: Order) -> dict[str, Any]:
        """Take in an answer in one piece, which may be a stream in disguise; return its object."""
        if text.lstrip().startswith((b"data:", b"event:", b":")):
            return await self._hear(_once(text), said, order)
        body = wire.read_object(text)
        self._take(body, said, order)
        return body

    async def _hear(
        self, chunks: AsyncIterable[bytes], said: ChatReply, order: Order
    ) -> dict[str, Any]:
        """Take in a stream up to its end, said or not; return its last object."""
        body: dict[str, Any] = {}
        async for _, data in sse(chunks, limit=room(order)):
            if data == b"[DONE]":
                break
            body = wire.read_object(data)
            self._take(body, said, order)
        return body

    def _take(self, body: Mapping[str, Any], said: ChatReply, order: Order) -> None:
        """Add what was said, unless it is an error, which may come with status 200."""
        if body.get("error") and not body.get("choices") and not body.get("data"):
            raise self._upstream.refusal(200, {}, body, prompt=order.prompt)
        said.add(body)

    async def _reply(self, order: Order, said: ChatReply) -> Reply:
        pictures, failure = await self._pictures(order, said.candidates())
        if not pictures and failure is None:
            raise self._wordy(order, said)
        return replied(
            order,
            pictures or [failure or NO_IMAGE],
            usage=_usage(said.usage),
            upstream_id=said.id,
            text=self._upstream.shown(said.text, prompt=order.prompt) or None,
        )

    async def _pictures(
        self, order: Order, groups: Iterable[list[str]]
    ) -> tuple[list[Picture], Failure | None]:
        """Return the pictures of the first group that holds any, or why a promised one is none.

        The same bytes count once, and none that we sent. Of more than were ordered, those with the
        most pixels are kept: the others are previews.
        """
        known = {hashlib.sha256(source.data).digest() for source in order.images}
        failure = None
        tried: set[str] = set()
        for group in groups:
            found: dict[bytes, Picture] = {}
            for reference in dict.fromkeys(group[:MAX_FETCHES]):
                if reference in tried:
                    continue
                tried.add(reference)
                outcome = await self._fetched(reference, order)
                if isinstance(outcome, Failure):
                    failure = failure or outcome
                    continue
                digest = hashlib.sha256(outcome.data).digest()
                if digest not in known:
                    found[digest] = outcome
            if found:
                return _largest(list(found.values()), order.n), None
        return [], failure

    async def _fetched(self, reference: str, order: Order) -> Picture | Failure:
        """Return the picture behind a reference; a page or a text is none."""
        if reference.startswith(("http://", "https://")):
            outcome = await self._upstream.picture(reference, limit=file_room(order))
        else:
            outcome = decoded("".join(reference.split()))
        if isinstance(outcome, Picture) and _area(outcome) == 0:
            return _UNFETCHED
        return outcome

    def _wordy(self, order: Order, said: ChatReply) -> ProviderError:
        """Return the error that an answer in words alone is."""
        refused = said.finish == "content_filter" or _POLICY.search(said.text[:4000])
        return ProviderError(
            self._upstream.shown(said.text, prompt=order.prompt) or NO_IMAGE.message,
            code=FailureCode.CONTENT_POLICY if refused else FailureCode.NO_IMAGE,
            upstream_id=said.id,
        )

    # -- tasks -----------------------------------------------------------------------------------

    async def _finish(self, order: Order, ticket: Ticket) -> Reply:
        path = str(self._options.get("task_path", TASK_PATH))
        url = ticket.url or path.replace("{id}", quote(ticket.id, safe=""))

        async def ask() -> dict[str, Any] | None:
            body = await self._polling.get(url)
            return body if _status(body) in _ENDED_WELL | _ENDED_BADLY else None

        body = await self._polling.until(ask)
        if _status(body) in _ENDED_BADLY:
            raise self._failed(body, order)
        pictures, failure = await self._pictures(order, [references(body)])
        return replied(order, pictures or [failure or NO_IMAGE], upstream_id=str(ticket))

    def _failed(self, body: Mapping[str, Any], order: Order) -> ProviderError:
        inner = wire.at(body, "data", kind=dict) or {}
        error = self._upstream.refusal(200, {}, {**inner, **body}, prompt=order.prompt)
        if error.code is not FailureCode.CONTENT_POLICY:
            return ProviderError("The upstream's task failed.", code=FailureCode.UPSTREAM_ERROR)
        return error


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: relays pass their upstreams' words through."""
    if _NO_CHANNEL.search(said.message):
        return FailureCode.MODEL_NOT_FOUND
    code = _CODES.get(said.code) or _CODES.get(said.kind)
    if code is None and said.status < 500 and _POLICY.search(said.message):
        return FailureCode.CONTENT_POLICY
    return code or code_of(said.status)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _ticket(body: Mapping[str, Any], base_url: str) -> Ticket | None:
    """Return the ticket of an answer that is a task; one that already holds its picture is none."""
    places = (body, wire.at(body, "data", kind=dict), wire.at(body, "data", 0, kind=dict))
    for place in places:
        task_id = wire.at(place, "task_id", kind=str)
        if task_id is None and place is not None and "status" in place:
            task_id = wire.at(place, "id", kind=str)
        if task_id and not references(body.get("data")):
            url = wire.at(place, "poll_url", kind=str) or wire.at(place, "polling_url", kind=str)
            return Ticket.of({"id": task_id}, url=_absolute(url, base_url) if url else None)
    return None


def _absolute(url: str, base_url: str) -> str:
    """Return a URL out of an answer, which may be a path of the relay."""
    try:
        return str(URL(base_url).join(URL(url)))
    except ValueError:
        return ""


def _status(body: Mapping[str, Any]) -> str:
    """Return how a task stands, in lower case, wherever the relay says it."""
    for place in (wire.at(body, "data", kind=dict), body):
        for name in ("status", "task_status", "state"):
            if word := wire.at(place, name, kind=str):
                return word.lower()
    return ""


def _largest(pictures: list[Picture], n: int) -> list[Picture]:
    """Return at most `n` pictures, those with the most pixels, in the order they came."""
    best = sorted(range(len(pictures)), key=lambda at: -_area(pictures[at]))[:n]
    return [pictures[at] for at in sorted(best)]


def _area(picture: Picture) -> int:
    try:
        facts = inspect(picture.data)
    except BadImage:
        return 0
    return facts.width * facts.height


def _usage(usage: Mapping[str, Any]) -> Usage | None:
    if not usage:
        return None
    return Usage(
        input_tokens=wire.at(usage, "prompt_tokens", kind=int),
        output_tokens=wire.at(usage, "completion_tokens", kind=int),
        total_tokens=wire.at(usage, "total_tokens", kind=int),
    )
