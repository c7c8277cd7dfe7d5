"""One upstream as its provider calls it: the deployment's address and headers, failures told apart.

What all dialects share lies between the door to the network and the words of the dialect: which
endings of a call are errors, whether the call may have been paid for, and what the caller may read
of it. A dialect adds one function that says what its own error codes mean.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import aiohttp
from yarl import URL

from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.complaint import Complaint, complaint, explained, presentable
from worker.provider import Order, Picture, ProviderError
from worker.reply import decoded
from worker.sse import sse
from worker.web import LIMIT, Answer, Refused, Stream, TimedOut, TooBig, Web, WebError


Judge: TypeAlias = Callable[[Complaint], FailureCode]
"""Says what a dialect's complaint means."""

MIB: Final = 1024 * 1024
MAX_ID: Final = 200
MAX_COMPLAINT: Final = MIB
FETCH_SECONDS: Final = 60.0
FETCH_TRIES: Final = 3
FETCH_PAUSE: Final = 0.5
# A gateway gave up waiting: what it waited for may have gone on, and may be charged.
UNKNOWN_STATUSES: Final = frozenset({504, 524})
_MAYBE_CHARGED: Final = UNKNOWN_STATUSES | {408}
_HINTED: Final = frozenset(
    {FailureCode.RATE_LIMITED, FailureCode.OVERLOADED, FailureCode.UPSTREAM_ERROR}
)
_LARGE_PIXELS: Final = 4_194_304
_TIER_PIXELS: Final = {"3K": 9_437_184, "4K": 16_777_216}


class Upstream:
    """A configured upstream, called at paths below the deployment's base URL.

    `headers` go with each call and hold the key; `judge` says what the dialect's errors mean. Each
    method raises `ProviderError` for any ending that is not a success.
    """

    def __init__(
        self,
        web: Web,
        deployment: Deployment,
        *,
        api_key: str | None,
        headers: Mapping[str, str],
        judge: Judge,
    ) -> None:
        self._web = web
        self._base = deployment.base_url
        # The caller's clock runs too; ours ends first, to tell what is known at the end.
        self._timeout = deployment.timeout - min(1.0, 0.02 * deployment.timeout)
        self._api_key = api_key
        self._headers = headers
        self._judge = judge

    async def call(
        self,
        method: str,
        path: str,
        *,
        limit: int,
        json: object = None,
        data: bytes | aiohttp.FormData | None = None,
        params: Mapping[str, str] | None = None,
        prompt: str = "",
    ) -> Answer:
        """Return a successful answer of at most `limit` bytes; `path` may be an absolute URL.

        `prompt` is kept out of error messages.
        """
        async with self.stream(
            method, path, limit=limit, json=json, data=data, params=params, prompt=prompt
        ) as stream:
            return Answer(stream.status, stream.headers, await stream.read())

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        limit: int,
        json: object = None,
        data: bytes | aiohttp.FormData | None = None,
        params: Mapping[str, str] | None = None,
        prompt: str = "",
    ) -> AsyncIterator[Stream]:
        """Like `call`, but give the successful answer as it comes."""
        taken: list[bool] = []
        with translated(taken):
            async with self._web.stream(
                method,
                self.url(path),
                headers=self._headers,
                json=json,
                data=data,
                params=params,
                timeout=self._timeout,
                limit=limit,
            ) as stream:
                if not 200 <= stream.status < 300:
                    body = await _beginning(stream)
                    raise self.refusal(stream.status, stream.headers, body, prompt=prompt)
                taken.append(True)
                yield stream

    def url(self, path: str) -> str:
        """Return the absolute URL of `path`."""
        return path if path.startswith(("http://", "https://")) else f"{self._base}{path}"

    def refusal(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes | Mapping[str, Any],
        *,
        prompt: str = "",
    ) -> ProviderError:
        """Return the error that an answer is, also one that came with status 200."""
        said = complaint(status, headers, body, now=time.time())
        code = self._judge(said)
        return ProviderError(
            explained(said, code, hide=(self._api_key, prompt)),
            code=code,
            retry_after=said.retry_after if code in _HINTED else None,
            outcome_unknown=status in UNKNOWN_STATUSES,
            upstream_id=request_id(headers),
            charged=False if status >= 400 and status not in _MAYBE_CHARGED else None,
        )

    def shown(self, text: str, *, prompt: str = "") -> str:
        """Return what the upstream said, fit to be read by the caller."""
        return presentable(text, hide=(self._api_key, prompt))

    def read(self, answer: Answer, *, prompt: str = "") -> dict[str, Any]:
        """Return the JSON object that a successful answer is.

        One that holds an error and no data is that error, whatever its status says.
        """
        with translated([True]):
            body = wire.read_object(answer.body)
        self._refuse_error(answer, body, prompt)
        return body

    def read_large(
        self, answer: Answer, name: str, *, prompt: str = ""
    ) -> tuple[dict[str, Any], Sequence[memoryview]]:
        """Do as `read`, with the long strings under `name` apart (`wire.large_at`)."""
        with translated([True]):
            body, lifted = wire.read_large(answer.body, name)
        self._refuse_error(answer, body, prompt)
        return body, lifted

    def _refuse_error(self, answer: Answer, body: Mapping[str, Any], prompt: str) -> None:
        if body.get("error") and not body.get("data"):
            raise self.refusal(answer.status, answer.headers, body, prompt=prompt)

    async def picture(
        self, url: str, *, limit: int, revised_prompt: str | None = None
    ) -> Picture | Failure:
        """Return the picture that an answer's `url` carries or leads to, or why there is none.

        A path, or a URL of the deployment's own host, is asked for at that host; any other URL is
        foreign and fetched without the key through the guarded door. The picture is made and paid
        by now, so a fetch that failed in passing is tried again. Its file has at most `limit`
        bytes.
        """
        if wire.is_data_url(url):
            return decoded(url, revised_prompt=revised_prompt)
        for number in range(FETCH_TRIES):
            await asyncio.sleep(FETCH_PAUSE * number)
            try:
                answer = await self._get(url, limit)
            except (Refused, TimedOut, TooBig):
                break
            except WebError:
                continue
            if answer.status == 200 and answer.body:
                return Picture(data=answer.body, revised_prompt=revised_prompt)
            if answer.status < 500:
                break
        message = "The upstream's image could not be fetched."
        return Failure(code=FailureCode.UPSTREAM_ERROR, message=message)

    async def _get(self, url: str, limit: int) -> Answer:
        base = URL(self._base)
        try:
            target = base.join(URL(url))
            own = target.origin() == base.origin()
        except ValueError:
            raise Refused from None
        if not own:
            return await self._web.fetch_foreign(url, limit=limit, timeout=FETCH_SECONDS)
        return await self._web.call(
            "GET",
            str(target),
            headers=None if URL(url).absolute else self._headers,
            limit=limit,
            timeout=FETCH_SECONDS,
        )


@contextmanager
def translated(taken: Sequence[bool] = ()) -> Iterator[None]:
    """Turn failures of the network into those of a provider.

    An answer that came but cannot be read may have been paid for as well as one that never came.
    `taken` is filled once a status has said that the work is done: then it has been.
    """
    try:
        yield
    except TimedOut as error:
        raise ProviderError(
            "The upstream gave no answer in time.",
            code=FailureCode.UPSTREAM_TIMEOUT,
            outcome_unknown=error.sent,
            charged=any(taken) or None,
        ) from None
    except WebError as error:
        raise ProviderError(
            error.message,
            code=FailureCode.UPSTREAM_ERROR,
            outcome_unknown=error.sent,
            charged=any(taken) or None,
        ) from None
    except wire.Unreadable as error:
        raise ProviderError(
            str(error),
            code=FailureCode.UPSTREAM_ERROR,
            outcome_unknown=True,
            charged=any(taken) or None,
        ) from None


def room(order: Order, *, previews: int = 0) -> int:
    """Return how many bytes an answer to `order` may have, its pictures and `previews` in base64.

    That is what the pixels weigh uncompressed, and never less than for four megapixels: an upstream
    may draw larger than asked.
    """
    return min(LIMIT, MIB + (order.n + previews) * _pixels(order) * 16 // 3)


def file_room(order: Order) -> int:
    """Return how many bytes the file of one picture of `order` may have, by the same measure."""
    return min(wire.MAX_PICTURE, MIB + _pixels(order) * 4)


def _pixels(order: Order) -> int:
    asked = (order.width or 0) * (order.height or 0)
    return max(_LARGE_PIXELS, asked, _TIER_PIXELS.get(order.resolution or "", 0))


async def events(stream: Stream, *, limit: int) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON objects of an event stream up to its `[DONE]`; raises `wire.Unreadable`."""
    async for _, data in sse(stream, limit=limit):
        if data == b"[DONE]":
            return
        yield wire.read_object(data)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the upstream's own name for the call, for whoever has to ask it about one."""
    return headers.get("x-request-id", "")[:MAX_ID] or None


async def _beginning(stream: Stream) -> bytes:
    """Return what can be had of an error's body; the status alone is an answer too."""
    body = bytearray()
    try:
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_COMPLAINT:
                break
    except WebError:
        pass
    return bytes(body)
