"""What a provider of tasks must show beside the rest: a task is submitted once, never given up."""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from storage.container import inspect
from storage.failure import FailureCode
from tests.suites.provider import PROMPT, ProviderSuite, failure, made, picture, progress, unknown
from tests.upstream.calls import Call
from tests.upstream.server import Upstream
from worker.provider import Progress, ProviderError, Reply, Resumable, Tools


FAST: dict[str, Any] = {"poll_seconds": 0.01}


class TaskSuite(ProviderSuite):
    """The claims of tasks; a subclass says which provider they are about."""

    hints = False
    options = FAST
    damage = "dead-url"
    polls_at: ClassVar[str]
    """A part of the path that only polls have."""
    charges: ClassVar[bool] = True
    reported: ClassVar[bool] = False
    """Whether the upstream says what it charges."""

    def polls(self, upstream: Upstream) -> list[Call]:
        return [call for call in upstream.calls() if self.polls_at in call.path]

    def submits(self, upstream: Upstream) -> list[Call]:
        return [call for call in upstream.calls() if call.model is not None]

    async def test_each_of_n_pictures_is_another_one(
        self, upstream: Upstream, subject: Any
    ) -> None:
        if self.n == 1:
            pytest.skip("one picture per call")
        reply = await subject.generate(self.order(n=self.n), progress())
        assert len({outcome.data for outcome in made(reply)}) == self.n
        assert len(self.submits(upstream)) == 1

    async def test_an_edit_sends_its_pictures_in_order(
        self, upstream: Upstream, subject: Any
    ) -> None:
        if not self.edits:
            pytest.skip("the upstream cannot edit")
        reply = await subject.generate(self.edit(), progress())
        assert inspect(picture(reply).data).width > 0
        assert len(self.submits(upstream)) == 1

    async def test_what_fails_once_is_asked_for_once(
        self, upstream: Upstream, subject: Any
    ) -> None:
        order = self.order(f"{PROMPT} [[500]] [[times:1]]")
        await failure(subject, order)
        assert len(upstream.calls()) == 1
        assert picture(await subject.generate(order, progress()))

    # -- what is a task's own --------------------------------------------------------------------

    async def test_the_id_is_safe_before_the_first_poll(
        self, upstream: Upstream, subject: Any
    ) -> None:
        seen: list[int] = []

        async def submitted(_: str) -> None:
            seen.append(len(self.polls(upstream)))

        await subject.generate(
            self.order("[[polls:3]]"), Progress(submitted=submitted, previewed=never)
        )
        assert seen == [0]
        assert len(self.polls(upstream)) >= 4

    async def test_a_task_that_cannot_be_recorded_is_not_polled(
        self, upstream: Upstream, subject: Any
    ) -> None:
        async def submitted(_: str) -> None:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await subject.generate(self.order(), Progress(submitted=submitted, previewed=never))
        assert self.polls(upstream) == []

    async def test_a_new_worker_goes_on_without_submitting_again(
        self, upstream: Upstream, subject: Any, tools: Tools
    ) -> None:
        order, ids = self.order(), list[str]()
        first = await subject.generate(order, progress(ids))
        other = self.make(upstream, tools)
        assert isinstance(other, Resumable)
        again = await other.resume(order, ids[0], progress())
        assert picture(again).data == picture(first).data
        assert len(ids) == 1
        assert len(self.submits(upstream)) == 1
        assert (again.cost, again.upstream_id) == (first.cost, first.upstream_id)
        assert (first.cost is not None) == self.reported

    async def test_an_id_that_is_none_of_ours_is_not_a_crash(
        self, upstream: Upstream, subject: Any
    ) -> None:
        error = await caught(lambda: subject.resume(self.order(), "not a ticket", progress()))
        assert unknown(error)
        assert self.submits(upstream) == []

    @pytest.mark.parametrize(
        "token", ["poll-500", "poll-503", "poll-429:0", "poll-drop", "poll-html", "poll-502"]
    )
    async def test_a_poll_that_fails_is_asked_again(
        self, upstream: Upstream, subject: Any, token: str
    ) -> None:
        order = self.order(f"{PROMPT} [[{token}]] [[poll-times:2]]")
        assert picture(await subject.generate(order, progress()))
        assert len(self.submits(upstream)) == 1

    async def test_a_poll_that_never_answers_does_not_outlast_the_timeout(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, timeout=0.4)
        error = await failure(subject, self.order("[[poll-hang]] [[poll-times:9]]"))
        assert error.code is FailureCode.UPSTREAM_TIMEOUT
        assert unknown(error)

    async def test_a_task_that_takes_too_long_may_still_end(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, timeout=0.4)
        order, ids = self.order("[[slow:0.8]]"), list[str]()
        error = await caught(lambda: subject.generate(order, progress(ids)))
        assert error.code is FailureCode.UPSTREAM_TIMEOUT
        assert unknown(error)
        patient = self.make(upstream, tools)
        assert isinstance(patient, Resumable)
        assert picture(await patient.resume(order, ids[0], progress()))
        assert len(self.submits(upstream)) == 1

    async def test_a_task_that_failed_is_over(self, upstream: Upstream, subject: Any) -> None:
        error = await failure(subject, self.order("[[fail]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert not unknown(error)

    async def test_a_task_that_is_forgotten_may_have_been_paid_for(
        self, upstream: Upstream, subject: Any
    ) -> None:
        error = await failure(subject, self.order("[[lost]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert unknown(error) == self.charges


async def never(_: object) -> None:
    raise AssertionError


async def caught(act: Callable[[], Awaitable[Reply]]) -> ProviderError:
    """Return the error that `act` raises."""
    with pytest.raises(ProviderError) as raised:
        await act()
    return raised.value
