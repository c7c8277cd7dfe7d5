"""Polling: an upstream keeps a task, and whoever knows its ticket can ask for it until it ends.

The ticket is on record before the first question, so a task outlives the worker that submitted it.
Once it is there, no question may give it up: a failed one is asked again, and when time runs out
the task is still at work as far as anybody knows.

Where to ask is often told by the upstream itself, in an answer, and the key goes along. So a URL
out of an answer is trusted only if it leads to the configured origin, or if it and the base URL
both belong to the upstream's own family of hosts, which is written in its dialect. Any other one
is asked through the guarded door, without the key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

import orjson
from yarl import URL

from storage.catalog import Deployment
from storage.failure import FailureCode
from worker import wire
from worker.provider import ProviderError
from worker.upstream import MIB, Judge, Upstream, translated
from worker.web import Answer, Web


T = TypeVar("T")

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
GROWTH: Final = 1.5
ASK_SECONDS: Final = 30.0
ANSWER_LIMIT: Final = 4 * MIB
MAX_TICKET: Final = 4096
INSISTED: Final = 3
# What a question can be told that says nothing about the task itself.
_GONE: Final = frozenset({FailureCode.MODEL_NOT_FOUND, FailureCode.INVALID_REQUEST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a worker needs to go on with a task that another one submitted.

    `url` is where to ask for it, `result_url` where its result is if that is another place. `cost`
    is what the upstream said at the counter that it will charge, in USD.
    """

    id: str
    url: str = ""
    result_url: str = ""
    cost: float | None = None

    def __str__(self) -> str:
        return orjson.dumps({k: v for k, v in asdict(self).items() if v not in ("", None)}).decode()

    @classmethod
    def read(cls, text: str) -> "Ticket":
        """Return the ticket that `text` is; raises `ProviderError` if it is none."""
        try:
            found = wire.read_object(text.encode())
        except wire.Unreadable:
            found = {}
        return cls.of(
            found,
            url=wire.at(found, "url", kind=str),
            result_url=wire.at(found, "result_url", kind=str),
            cost=wire.number_at(found, "cost"),
        )

    @classmethod
    def of(
        cls,
        body: dict[str, Any],
        *,
        id_field: str = "id",
        url: str | None = None,
        result_url: str | None = None,
        cost: float | None = None,
    ) -> "Ticket":
        """Return the ticket for a task that was taken; raises `ProviderError` if it has no id."""
        task_id = wire.at(body, id_field, kind=str) or ""
        ticket = cls(id=task_id, url=url or "", result_url=result_url or "", cost=cost)
        if not task_id or len(str(ticket)) > MAX_TICKET:
            raise ProviderError(
                "The upstream took the task but did not say how to ask for it.",
                code=FailureCode.UPSTREAM_ERROR,
                outcome_unknown=True,
            )
        return ticket


def trusted(url: str, base_url: str, family: str = "") -> bool:
    """Say whether the key may go to `url`, which came out of an answer.

    It may to the origin of `base_url`. It may also over https, at its usual port, to the host
    `family` ("bfl.ai") and all below it, if `base_url` leads there too.
    """
    try:
        target, base = URL(url), URL(base_url)
        if target.user is not None or not target.absolute:
            return False
        return target.origin() == base.origin() or (
            _of_family(target, family) and _of_family(base, family)
        )
    except ValueError:
        return False


def _of_family(url: URL, family: str) -> bool:
    host = url.host or ""
    usual = url.scheme == "https" and url.port == 443
    return bool(family) and usual and (host == family or host.endswith(f".{family}"))


class Polling:
    """Asks one upstream for its tasks. `family` is the name that all of its hosts end with."""

    def __init__(
        self,
        web: Web,
        deployment: Deployment,
        *,
        api_key: str | None,
        headers: dict[str, str],
        judge: Judge,
        family: str = "",
    ) -> None:
        self._web = web
        self._base = deployment.base_url
        self._family = family
        self._timeout = deployment.timeout
        self._seconds = min(ASK_SECONDS, deployment.timeout)
        self._first = float(deployment.options.get("poll_seconds", FIRST_PAUSE))
        self._upstream = Upstream(
            web,
            replace(deployment, timeout=self._seconds),
            api_key=api_key,
            headers=headers,
            judge=judge,
        )

    async def until(self, ask: Callable[[], Awaitable[T | None]]) -> T:
        """Ask, and ask again ever more slowly, until there is an answer; return it.

        Raises `ProviderError` with `outcome_unknown` if none comes within the deployment's timeout,
        or if the upstream will not tell.
        """
        pause = self._first
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    hint = 0.0
                    try:
                        if (found := await ask()) is not None:
                            return found
                    except ProviderError as error:
                        _raise_final(error)
                        hint = error.retry_after or 0.0
                    await asyncio.sleep(max(pause, hint))
                    pause = min(pause * GROWTH, LONGEST_PAUSE)
        except TimeoutError:
            raise ProviderError(
                "The upstream did not finish its task in time.",
                code=FailureCode.UPSTREAM_TIMEOUT,
                outcome_unknown=True,
            ) from None

    async def insist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do what has been paid for, up to three times while it fails in passing."""
        for number in range(1, INSISTED):
            try:
                return await act()
            except ProviderError as error:
                if not error.code.retryable:
                    raise
                await asyncio.sleep(self._first * number)
        return await act()

    async def get(self, url: str) -> dict[str, Any]:
        """Return the JSON object at `url`, a path or a URL out of an answer; it may be an error."""
        answer = await self._answer(url)
        with translated():
            return wire.read_object(answer.body)

    async def _answer(self, url: str) -> Answer:
        if url.startswith("/") or trusted(url, self._base, self._family):
            return await self._upstream.call("GET", url, limit=ANSWER_LIMIT)
        with translated():
            answer = await self._web.fetch_foreign(url, limit=ANSWER_LIMIT, timeout=self._seconds)
        if not 200 <= answer.status < 300:
            raise self._upstream.refusal(answer.status, answer.headers, answer.body)
        return answer


def _raise_final(error: ProviderError) -> None:
    """Raise what asking again cannot mend; a task that is not found may have been paid for."""
    if error.code is FailureCode.CONTENT_POLICY:
        raise error
    if error.code in _GONE:
        raise ProviderError(
            "The upstream does not know its task any more.",
            code=FailureCode.UPSTREAM_ERROR,
            outcome_unknown=True,
        ) from error
    if not error.code.retryable:
        error.outcome_unknown, error.charged = True, None
        raise error
