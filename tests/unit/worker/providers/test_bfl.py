import asyncio

import pytest

from storage.failure import FailureCode
from tests.suites.provider import failure, picture, progress, source, unknown
from tests.suites.provider_task import FAST, TaskSuite, caught
from tests.unit.worker.providers.masks import WithPixels, half_mask, is_white_on_the_left
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.polling import Ticket
from worker.provider import Provider, Resumable, Tools


class TestBFL(TaskSuite):
    provider = "bfl"
    place = "/bfl"
    model = "flux-2-pro"
    polls_at = "get_result"
    reported = True
    hints = True

    async def test_the_cost_is_in_credits_and_survives_a_new_worker(
        self, upstream: Upstream, subject: Provider, tools: Tools
    ) -> None:
        ids: list[str] = []
        reply = await subject.generate(self.edit(), progress(ids))
        assert reply.cost == pytest.approx(0.045)
        assert reply.cost == pytest.approx(upstream.ledger.bill()["total"])
        assert Ticket.read(ids[0]).cost == reply.cost
        other = self.make(upstream, tools)
        assert isinstance(other, Resumable)
        assert (await other.resume(self.edit(), ids[0], progress())).cost == reply.cost

    async def test_input_pictures_are_bare_and_numbered(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(count=3), progress())
        body = upstream.calls()[0].body
        names = [name for name in body if name.startswith("input_image")]
        assert names == ["input_image", "input_image_2", "input_image_3"]
        assert not any(body[name].startswith("data:") for name in names)

    @pytest.mark.parametrize(
        ("tokens", "code"),
        [
            ("[[refuse:input]]", FailureCode.CONTENT_POLICY),
            ("[[refuse:output]]", FailureCode.CONTENT_POLICY),
            ("[[fail]]", FailureCode.UPSTREAM_ERROR),
            ("[[fail]] [[broken]]", FailureCode.UPSTREAM_ERROR),
        ],
    )
    async def test_a_bad_end_is_told_by_the_poll(
        self, upstream: Upstream, subject: Provider, tokens: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(tokens))
        assert error.code is code
        assert not unknown(error)
        assert len(self.polls(upstream)) >= 2

    async def test_a_polling_url_of_strangers_never_gets_the_key(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        async with server.running() as stranger:
            order = self.order(f"[[elsewhere:{stranger.url('')}]]")
            error = await failure(subject, order)
            (call,) = stranger.calls()
        assert call.key is None
        assert unknown(error)
        assert self.polls(upstream) == []

    async def test_a_polling_url_into_our_own_network_is_not_called(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, timeout=0.3)
        error = await failure(subject, self.order("[[elsewhere:http://169.254.169.254]]"))
        assert error.code is FailureCode.UPSTREAM_TIMEOUT
        assert unknown(error)

    async def test_a_result_cannot_be_sent_elsewhere(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        options = {"webhook_url": "https://evil.example", "webhook_secret": "x", "seed": 7}
        assert picture(await subject.generate(self.order(options=options), progress()))
        body = upstream.calls()[0].body
        assert not {"webhook_url", "webhook_secret"} & body.keys()
        assert body["seed"] == 7

    async def test_more_tasks_than_the_upstream_takes_is_a_rate_limit(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        patient = self.make(upstream, tools, timeout=0.5)
        order = self.order("[[slow:30]]")
        waiting = [asyncio.create_task(caught_of(patient, order)) for _ in range(24)]
        while len(self.submits(upstream)) < 24:
            await asyncio.sleep(0.01)
        error = await caught(lambda: patient.generate(self.order("one more"), progress()))
        await asyncio.gather(*waiting)
        assert error.code is FailureCode.RATE_LIMITED
        assert error.retry_after == 1.0

    async def test_a_link_that_has_expired_is_not_a_picture(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[expired-url]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert unknown(error)


class TestBFLFill(WithPixels):
    """What paints within a mask, with fields of its own."""

    suite = TestBFL()

    async def test_the_mask_is_white_where_the_picture_may_change(self, tools: Tools) -> None:
        async with server.running() as upstream:
            subject = self.suite.make(
                upstream,
                tools,
                upstream_model="flux-pro-1.0-fill",
                options={**FAST, "image_field": "image"},
            )
            order = self.suite.edit(
                model="flux-pro-1.0-fill", images=(source(side=64),), mask=half_mask()
            )
            assert picture(await subject.generate(order, progress()))
            body = upstream.calls()[0].body
        assert is_white_on_the_left(body["mask"])
        assert body.keys() == {"prompt", "image", "mask"}


async def caught_of(subject: Provider, order: object) -> object:
    return await failure(subject, order)  # type: ignore[arg-type]  # an order of the suite
