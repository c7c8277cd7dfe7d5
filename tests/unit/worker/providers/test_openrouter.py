from typing import Any, ClassVar

import pytest

from storage.catalog import Price
from storage.failure import Failure, FailureCode
from storage.request import Request
from tests.suites.provider import (
    PROMPT,
    ProviderSuite,
    failure,
    made,
    picture,
    progress,
    unknown,
)
from tests.upstream.server import Upstream
from worker.pricing import cost_of_reply
from worker.provider import Order, Partial, Picture, Provider, ProviderError, Tools


class Shared(ProviderSuite):
    """What holds for both of its doors."""

    provider = "openrouter"
    place = "/openrouter/api/v1"
    exact_size = False

    async def test_the_charge_is_what_the_upstream_reports(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order(resolution="2K"), progress())
        deployment = self.deployment(upstream, price=Price(per_image=99.0))
        cost = cost_of_reply(reply, Request(prompt=PROMPT), deployment)
        assert cost.amount == upstream.ledger.bill()["total"]
        assert cost.amount

    async def test_a_failure_with_status_200_is_what_it_says(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[503]] [[error-200]]"))
        assert error.code is FailureCode.OVERLOADED
        assert not unknown(error)

    @pytest.mark.parametrize(
        ("why", "meant", "wait"),
        [
            ("capacity_exhausted", FailureCode.OVERLOADED, 5.0),
            ("model_deprecated", FailureCode.MODEL_NOT_FOUND, None),
            ("region_restricted", FailureCode.PERMISSION, None),
        ],
    )
    async def test_availability_says_whether_waiting_helps(
        self, upstream: Upstream, subject: Provider, why: str, meant: FailureCode, wait: float
    ) -> None:
        error = await failure(subject, self.order(f"[[503]] [[availability:{why}]]"))
        assert isinstance(error, ProviderError)
        assert (error.code, error.retry_after) == (meant, wait)

    async def test_who_asks_is_named(self, upstream: Upstream, tools: Tools) -> None:
        options = {**self.options, "referer": "https://example.com", "title": "Example"}
        await self.make(upstream, tools, options=options).generate(self.order(), progress())
        headers = upstream.calls()[0].headers
        assert headers["HTTP-Referer"] == "https://example.com"
        assert headers["X-Title"] == "Example"

    async def test_routing_is_the_deployment_s_alone(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        routing = {"only": ["google-vertex"]}
        subject = self.make(upstream, tools, options={**self.options, "provider": routing})
        order = self.order(options={"provider": {"only": ["another"]}})
        await subject.generate(order, progress())
        assert upstream.calls()[0].body["provider"] == routing


class TestImages(Shared):
    model = "openai/gpt-image-2"
    n = 3

    async def test_ratio_and_tier_are_said_as_they_are(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(aspect_ratio="16:9", resolution="2K", output_format="webp", seed=3)
        await subject.generate(order, progress())
        assert upstream.calls()[0].body == {
            "model": self.model,
            "prompt": PROMPT,
            "aspect_ratio": "16:9",
            "resolution": "2K",
            "output_format": "webp",
            "seed": 3,
        }

    async def test_pixels_win_over_ratio_and_tier(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(width=1024, height=768, aspect_ratio="4:3", resolution="1K")
        await subject.generate(order, progress())
        body = upstream.calls()[0].body
        assert body["size"] == "1024x768"
        assert not {"aspect_ratio", "resolution"} & body.keys()

    async def test_an_edit_is_a_request_with_references(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(count=2), progress())
        references = upstream.calls()[0].body["input_references"]
        assert [part["type"] for part in references] == ["image_url", "image_url"]

    async def test_a_charge_for_nothing_is_reported_too(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[empty]]"))
        assert isinstance(error, ProviderError)
        assert error.cost == 0.0


class TestChat(Shared):
    model = "google/gemini-3.1-flash-image"
    options: ClassVar[dict[str, Any]] = {"api": "chat"}

    async def test_words_come_first_and_looks_go_to_image_config(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(
            self.edit(aspect_ratio="3:2", resolution="512", quality="high"), progress()
        )
        body = upstream.calls()[0].body
        assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url"]
        assert body["modalities"] == ["image", "text"]
        assert body["image_config"] == {
            "aspect_ratio": "3:2",
            "image_size": "0.5K",
            "quality": "high",
        }

    async def test_a_model_without_words_is_asked_for_none(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"api": "chat", "modalities": ["image"]})
        order = self.order(model="black-forest-labs/flux.2-pro")
        assert picture(await subject.generate(order, progress()))

    async def test_a_model_that_only_talks_is_quoted(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[text-only]]"))
        assert error.code is FailureCode.NO_IMAGE
        assert "describe" in error.message

    async def test_an_answer_filtered_away_is_content_policy(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[finish:content_filter]]"))
        assert error.code is FailureCode.CONTENT_POLICY

    async def test_an_answer_that_ends_in_an_error_is_that_error(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[finish:error]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR

    async def test_the_generation_is_named(self, upstream: Upstream, subject: Provider) -> None:
        reply = await subject.generate(self.order(), progress())
        assert reply.upstream_id == "gen-1"
        assert isinstance(made(reply)[0], Picture)


class Streaming(ProviderSuite):
    """What holds for both of its doors when the answer comes as events."""

    provider = "openrouter"
    place = "/openrouter/api/v1"
    exact_size = False

    def order(self, prompt: str = PROMPT, **changes: Any) -> Order:
        return super().order(prompt, **{"partial_images": 2, **changes})

    async def test_a_stream_is_asked_for_and_says_its_cost(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order(), progress())
        assert picture(reply)
        (call,) = upstream.calls()
        assert call.body["stream"] is True
        assert reply.cost == upstream.ledger.bill()["total"]
        assert reply.usage is not None
        assert reply.usage.output_image_tokens == 1120

    async def test_an_answer_in_one_piece_is_read_although_a_stream_was_asked_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        assert picture(await subject.generate(self.order("[[no-stream]]"), progress()))

    async def test_a_stream_that_ends_before_its_picture_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[early-end]]"))
        assert error.code is FailureCode.OUTCOME_UNKNOWN
        assert unknown(error)


class TestImagesStreaming(Streaming):
    model = "openai/gpt-image-2"
    n = 3

    async def test_an_answer_without_pictures_is_no_image(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        """Events alone do not tell an empty answer from one that was cut off."""
        assert unknown(await failure(subject, self.order("[[empty]]")))

    async def test_previews_come_before_each_picture(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        previews: list[Partial] = []
        reply = await subject.generate(self.order(n=2), progress(previewed=previews))
        assert len({one.data for one in made(reply)}) == 2
        told = [(one.index, one.sequence) for one in previews]
        assert told == [(0, 0), (0, 1), (1, 0), (1, 1)]

    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("early-end:1", FailureCode.OUTCOME_UNKNOWN),
            ("error-event:1", FailureCode.UPSTREAM_ERROR),
        ],
    )
    async def test_a_stream_that_breaks_off_keeps_its_finished_pictures(
        self, upstream: Upstream, subject: Provider, token: str, code: FailureCode
    ) -> None:
        reply = await subject.generate(self.order(f"[[{token}]]", n=2), progress())
        assert len(made(reply)) == 1
        lost = reply.outcomes[1]
        assert isinstance(lost, Failure)
        assert lost.code is code

    async def test_an_event_that_is_an_error_is_that_error(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[error-event]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR


class TestChatStreaming(Streaming):
    model = "google/gemini-3.1-flash-image"
    options: ClassVar[dict[str, Any]] = {"api": "chat"}

    async def test_words_in_pieces_are_put_together(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[text-only]]"))
        assert error.code is FailureCode.NO_IMAGE
        assert error.message == "I can only describe it: a lighthouse."

    @pytest.mark.parametrize(
        ("finish", "code"),
        [
            ("content_filter", FailureCode.CONTENT_POLICY),
            ("error", FailureCode.UPSTREAM_ERROR),
        ],
    )
    async def test_the_last_chunk_says_why_there_is_no_picture(
        self, upstream: Upstream, subject: Provider, finish: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[finish:{finish}]]"))
        assert error.code is code
        assert not unknown(error)
