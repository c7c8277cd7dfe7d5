from typing import Any

import pytest

from storage.catalog import Price
from storage.container import inspect
from storage.failure import FailureCode
from storage.request import Request
from tests.suites.provider import PROMPT, ProviderSuite, failure, picture, progress, unknown
from tests.upstream.server import Upstream
from worker.pricing import cost_of_reply
from worker.provider import Order, Partial, Provider, Tools


class TestGemini(ProviderSuite):
    provider = "gemini"
    place = "/gemini/v1beta"
    model = "gemini-3.1-flash-image"
    exact_size = False

    async def test_ratio_and_tier_are_said_where_they_belong(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(aspect_ratio="16:9", resolution="2K", seed=7)
        reply = await subject.generate(order, progress())
        facts = inspect(picture(reply).data)
        assert (facts.width, facts.height) == (2688, 1536)
        call = upstream.calls()[0]
        assert call.path.endswith("/models/gemini-3.1-flash-image:generateContent")
        assert call.body == {
            "contents": [{"role": "user", "parts": [{"text": PROMPT}]}],
            "generationConfig": {
                "responseModalities": ["TEXT", "IMAGE"],
                "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
                "seed": 7,
            },
        }

    async def test_pictures_come_before_the_words_about_them(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(count=2), progress())
        parts = upstream.calls()[0].body["contents"][0]["parts"]
        assert [set(part) for part in parts] == [{"inlineData"}, {"inlineData"}, {"text"}]

    async def test_a_draft_is_not_the_picture(self, upstream: Upstream, subject: Provider) -> None:
        reply = await subject.generate(self.order(f"{PROMPT} [[thought]]"), progress())
        assert inspect(picture(reply).data).width == 1024

    async def test_what_the_model_says_beside_the_picture_is_kept(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order(), progress())
        assert reply.text == "Here it is."
        assert reply.upstream_id == "resp-1"

    async def test_either_spelling_is_understood(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order("[[snake]]"), progress())
        assert picture(reply).data
        assert reply.usage is not None
        assert reply.usage.output_image_tokens == 1120

    @pytest.mark.parametrize("model", ["gemini-3.1-flash-image", "gemini-3-pro-image"])
    async def test_tokens_at_the_listed_price_come_to_what_the_upstream_bills(
        self, upstream: Upstream, subject: Provider, model: str
    ) -> None:
        pro = model == "gemini-3-pro-image"
        price = Price(
            input_text_tokens=2.0 if pro else 0.5,
            output_text_tokens=12.0 if pro else 3.0,
            output_image_tokens=120.0 if pro else 60.0,
        )
        reply = await subject.generate(self.edit(model=model, resolution="4K"), progress())
        deployment = self.deployment(upstream, price=price)
        cost = cost_of_reply(reply, Request(prompt=PROMPT), deployment)
        assert cost.amount == pytest.approx(upstream.ledger.bill()["total"], abs=1e-9)

    @pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKLIST", "IMAGE_SAFETY"])
    async def test_a_blocked_prompt_is_content_policy(
        self, upstream: Upstream, subject: Provider, reason: str
    ) -> None:
        error = await failure(subject, self.order(f"[[block:{reason}]]"))
        assert error.code is FailureCode.CONTENT_POLICY
        assert reason in error.message

    @pytest.mark.parametrize(
        ("finish", "code"),
        [
            ("IMAGE_SAFETY", FailureCode.CONTENT_POLICY),
            ("IMAGE_PROHIBITED_CONTENT", FailureCode.CONTENT_POLICY),
            ("IMAGE_RECITATION", FailureCode.CONTENT_POLICY),
            ("SPII", FailureCode.CONTENT_POLICY),
            ("NO_IMAGE", FailureCode.NO_IMAGE),
            ("IMAGE_OTHER", FailureCode.NO_IMAGE),
            ("MAX_TOKENS", FailureCode.NO_IMAGE),
        ],
    )
    async def test_how_an_answer_ends_says_why_there_is_no_picture(
        self, upstream: Upstream, subject: Provider, finish: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[finish:{finish}]]"))
        assert error.code is code
        assert finish in error.message

    async def test_a_model_that_only_talks_is_quoted(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[text-only]]"))
        assert error.code is FailureCode.NO_IMAGE
        assert error.message == "I can only describe a lighthouse."

    async def test_a_gateway_that_gave_up_may_have_been_charged(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[504]]"))
        assert error.code is FailureCode.UPSTREAM_TIMEOUT
        assert unknown(error)

    async def test_vertex_wants_a_bearer_token(self, upstream: Upstream, tools: Tools) -> None:
        subject = self.make(upstream, tools, options={"auth": "bearer"})
        assert picture(await subject.generate(self.order(), progress()))

    async def test_options_add_fields_and_replace_none(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}]
        options = {"modalities": ["IMAGE"], "body": {"safetySettings": safety, "contents": []}}
        subject = self.make(upstream, tools, options=options)
        order = self.order(options={"temperature": 0.5, "candidateCount": 8})
        await subject.generate(order, progress())
        body = upstream.calls()[0].body
        assert body["safetySettings"] == safety
        assert body["contents"]
        assert body["generationConfig"]["responseModalities"] == ["IMAGE"]
        assert body["generationConfig"]["temperature"] == 0.5
        assert "candidateCount" not in body["generationConfig"]


class TestGeminiStreaming(TestGemini):
    """The same claims, of an answer that comes as events."""

    def order(self, prompt: str = PROMPT, **changes: Any) -> Order:
        return super().order(prompt, **{"partial_images": 2, **changes})

    async def test_ratio_and_tier_are_said_where_they_belong(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.order(aspect_ratio="16:9", resolution="2K"), progress())
        (call,) = upstream.calls()
        assert call.path.endswith("/models/gemini-3.1-flash-image:streamGenerateContent")
        assert call.query == {"alt": "sse"}
        assert "stream" not in call.body

    async def test_the_drafts_of_a_model_that_thinks_in_pictures_are_previews(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        previews: list[Partial] = []
        order = self.order("[[thought]]")
        reply = await subject.generate(order, progress(previewed=previews))
        assert [(one.index, one.sequence) for one in previews] == [(0, 0)]
        assert inspect(previews[0].data).width == 64
        assert inspect(picture(reply).data).width == 1024

    async def test_a_stream_brings_what_a_whole_answer_does(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        whole = await subject.generate(self.order(partial_images=None), progress())
        streamed = await subject.generate(self.order(), progress())
        assert picture(streamed).data == picture(whole).data
        assert (streamed.usage, streamed.text) == (whole.usage, whole.text)

    @pytest.mark.parametrize("token", ["early-end:1", "error-event:1"])
    async def test_a_picture_that_came_outlives_its_stream(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        assert picture(await subject.generate(self.order(f"[[{token}]]"), progress()))

    async def test_a_stream_that_ends_before_its_picture_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[early-end]]"))
        assert error.code is FailureCode.OUTCOME_UNKNOWN
        assert unknown(error)

    async def test_an_event_that_is_an_error_is_that_error(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[error-event]]"))
        assert error.code is FailureCode.OVERLOADED
