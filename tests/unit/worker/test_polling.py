import asyncio
from typing import Any, cast

import pytest

from storage.catalog import Deployment
from storage.failure import FailureCode
from tests.suites.provider_task import caught
from worker.complaint import code_of
from worker.polling import MAX_TICKET, Polling, Ticket, trusted
from worker.provider import ProviderError, Reply
from worker.web import Web


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("https://api.bfl.ai/v1/get_result?id=1", "https://api.bfl.ai", True),
        ("https://api.eu2.bfl.ai/v1/get_result?id=1", "https://api.bfl.ai", True),
        ("https://api.us1.bfl.ai/v1/get_result?id=1", "https://api.eu.bfl.ai", True),
        ("https://bfl.ai/x", "https://api.bfl.ai", True),
        ("https://api.bfl.ai.evil.example/x", "https://api.bfl.ai", False),
        ("https://evilbfl.ai/x", "https://api.bfl.ai", False),
        ("https://evil.example/bfl.ai", "https://api.bfl.ai", False),
        ("http://api.bfl.ai/x", "https://api.bfl.ai", False),
        ("https://api.bfl.ai:8443/x", "https://api.bfl.ai", False),
        ("https://user@api.bfl.ai/x", "https://api.bfl.ai", False),
        ("https://api.bfl.ai@evil.example/x", "https://api.bfl.ai", False),
        ("https://api.bfl.ai/x", "https://relay.example", False),
        ("https://relay.example/x", "https://relay.example/bfl", True),
        ("https://other.relay.example/x", "https://relay.example/bfl", False),
        ("http://127.0.0.1:8100/bfl/v1", "http://127.0.0.1:8100/bfl", True),
        ("http://127.0.0.1:8101/bfl/v1", "http://127.0.0.1:8100/bfl", False),
        ("//api.bfl.ai/x", "https://api.bfl.ai", False),
        ("https://[::1", "https://api.bfl.ai", False),
    ],
)
def test_the_key_goes_to_the_configured_origin_and_the_upstream_s_own_hosts(
    url: str, base: str, *, expected: bool
) -> None:
    assert trusted(url, base, "bfl.ai") is expected


def test_without_a_family_only_the_origin_is_trusted() -> None:
    assert not trusted("https://b.example.com/x", "https://a.example.com")
    assert trusted("https://a.example.com/x", "https://a.example.com/v1")


@pytest.mark.parametrize(
    "ticket",
    [
        Ticket(id="1"),
        Ticket(id="1", url="https://a/b?id=1"),
        Ticket(id="1", url="/a", result_url="/b", cost=0.03),
        Ticket(id="1", cost=0.0),
    ],
)
def test_a_ticket_is_read_as_it_was_written(ticket: Ticket) -> None:
    assert Ticket.read(str(ticket)) == ticket


@pytest.mark.parametrize(
    "body", [{}, {"id": ""}, {"id": 7}, {"id": None}, {"id": "x" * (MAX_TICKET + 1)}]
)
def test_a_task_without_a_usable_id_may_have_been_paid_for(body: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as raised:
        Ticket.of(body)
    assert raised.value.outcome_unknown


def polling(*, timeout: float = 5.0) -> Polling:
    deployment = Deployment(
        name="d",
        model="m",
        provider="bfl",
        base_url="https://api.bfl.ai",
        timeout=timeout,
        options={"poll_seconds": 0.001},
    )
    web = cast("Web", None)
    return Polling(
        web, deployment, api_key=None, headers={}, judge=lambda said: code_of(said.status)
    )


def answers(*endings: object) -> Any:
    """Return an `ask` that answers with each of these once, then with "end"; and its count."""
    left = list(endings)

    async def ask() -> Any:
        ask.calls += 1  # type: ignore[attr-defined]  # a function may carry its own count
        ending = left.pop(0) if left else "end"
        if isinstance(ending, Exception):
            raise ending
        return ending

    ask.calls = 0  # type: ignore[attr-defined]  # see above
    return ask


def error(code: FailureCode, **more: Any) -> ProviderError:
    return ProviderError("no", code=code, **more)


async def test_it_asks_until_there_is_an_answer() -> None:
    ask = answers(None, None)
    assert await polling().until(ask) == "end"
    assert ask.calls == 3


@pytest.mark.parametrize(
    "code",
    [
        FailureCode.RATE_LIMITED,
        FailureCode.OVERLOADED,
        FailureCode.UPSTREAM_ERROR,
        FailureCode.UPSTREAM_TIMEOUT,
    ],
)
async def test_what_fails_in_passing_is_asked_again(code: FailureCode) -> None:
    ask = answers(error(code), error(code, outcome_unknown=True))
    assert await polling().until(ask) == "end"
    assert ask.calls == 3


async def test_a_hint_to_wait_is_obeyed() -> None:
    ask = answers(error(FailureCode.RATE_LIMITED, retry_after=0.2))
    started = asyncio.get_running_loop().time()
    await polling().until(ask)
    assert asyncio.get_running_loop().time() - started >= 0.2


async def test_a_key_that_is_refused_says_nothing_about_the_task() -> None:
    refused = await caught(lambda: _until(answers(error(FailureCode.AUTH))))
    assert refused.code is FailureCode.AUTH
    assert refused.outcome_unknown


async def test_moderation_is_an_end() -> None:
    refused = await caught(lambda: _until(answers(error(FailureCode.CONTENT_POLICY))))
    assert refused.code is FailureCode.CONTENT_POLICY
    assert not refused.outcome_unknown


@pytest.mark.parametrize("code", [FailureCode.MODEL_NOT_FOUND, FailureCode.INVALID_REQUEST])
async def test_a_task_that_is_not_found_is_not_a_model_that_is_not_found(code: FailureCode) -> None:
    lost = await caught(lambda: _until(answers(error(code))))
    assert lost.code is FailureCode.UPSTREAM_ERROR
    assert lost.outcome_unknown


async def test_time_that_runs_out_leaves_the_task_at_work() -> None:
    async def ask() -> None:
        return None

    late = await caught(lambda: _until(ask, timeout=0.05))
    assert late.code is FailureCode.UPSTREAM_TIMEOUT
    assert late.outcome_unknown


async def test_what_was_paid_for_is_fetched_three_times_before_it_is_given_up() -> None:
    broken = error(FailureCode.UPSTREAM_ERROR)
    ask = answers(broken, broken)
    assert await polling().insist(ask) == "end"
    ask = answers(broken, broken, broken)
    with pytest.raises(ProviderError):
        await polling().insist(ask)
    assert ask.calls == 3


async def test_what_is_final_is_not_insisted_on() -> None:
    ask = answers(error(FailureCode.CONTENT_POLICY))
    with pytest.raises(ProviderError):
        await polling().insist(ask)
    assert ask.calls == 1


async def _until(ask: Any, *, timeout: float = 5.0) -> Reply:
    found: Reply = await polling(timeout=timeout).until(ask)
    return found
