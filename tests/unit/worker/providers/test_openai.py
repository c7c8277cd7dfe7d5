from dataclasses import replace
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
    mask,
    picture,
    progress,
    source,
    unknown,
)
from tests.upstream import pictures
from tests.upstream.server import Upstream
from worker.pricing import cost_of_reply
from worker.provider import Partial, Provider, Tools


class TestOpenAI(ProviderSuite):
    provider = "openai"
    place = "/openai/v1"
    model = "gpt-image-2"
    n = 3

    # -- asking ----------------------------------------------------------------------------------

    async def test_what_was_asked_for_is_said_in_openai_s_words(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(
            n=2,
            quality="high",
            background="opaque",
            output_format="webp",
            output_compression=80,
            moderation="low",
            user="u-1",
        )
        await subject.generate(order, progress())
        assert upstream.calls()[0].body == {
            "model": "gpt-image-2",
            "prompt": PROMPT,
            "n": 2,
            "size": "1024x1024",
            "quality": "high",
            "background": "opaque",
            "output_format": "webp",
            "output_compression": 80,
            "moderation": "low",
            "user": "u-1",
        }

    async def test_gpt_image_is_never_asked_for_a_response_format(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        options = {"response_format": "b64_json"}
        await self.make(upstream, tools, options=options).generate(self.order(), progress())
        local = self.make(upstream, tools, options=options)
        await local.generate(self.order(model="local-flux"), progress())
        gpt_image, other = upstream.calls()
        assert "response_format" not in gpt_image.body
        assert other.body["response_format"] == "b64_json"

    async def test_options_add_fields_and_replace_none(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"body": {"complexity": "low", "n": 9}})
        order = self.order(options={"model": "gpt-image-1.5", "size": "1x1", "stream": True})
        await subject.generate(order, progress())
        assert upstream.calls()[0].body == {
            "model": "gpt-image-2",
            "prompt": PROMPT,
            "size": "1024x1024",
            "complexity": "low",
        }

    async def test_the_deployment_s_organisation_is_named(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        options = {"organization": "org-1", "project": "proj-1"}
        await self.make(upstream, tools, options=options).generate(self.order(), progress())
        headers = upstream.calls()[0].headers
        assert headers["OpenAI-Organization"] == "org-1"
        assert headers["OpenAI-Project"] == "proj-1"

    # -- edits -----------------------------------------------------------------------------------

    async def test_a_single_picture_and_its_mask_travel_as_files_with_names_of_ours(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(mask=mask(), quality="low"), progress())
        call = upstream.calls()[0]
        assert call.path.endswith("/images/edits")
        assert [(part.name, part.filename, part.content_type) for part in call.parts] == [
            ("image", "image_1.png", "image/png"),
            ("mask", "mask.png", "image/png"),
        ]
        assert call.body["quality"] == "low"

    async def test_many_pictures_keep_their_order_and_types(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        images = (source(0), source(1, format_="jpeg"), source(2, format_="webp"))
        await subject.generate(self.edit(images=images, n=2), progress())
        call = upstream.calls()[0]
        assert [(part.name, part.filename) for part in call.parts] == [
            ("image[]", "image_1.png"),
            ("image[]", "image_2.jpg"),
            ("image[]", "image_3.webp"),
        ]
        assert [part.size for part in call.parts] == [len(image.data) for image in images]
        assert call.body["n"] == "2"

    async def test_a_server_may_want_another_field_for_its_pictures(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"image_field": "image"})
        await subject.generate(self.edit(count=2), progress())
        assert [part.name for part in upstream.calls()[0].parts] == ["image", "image"]

    async def test_edits_can_travel_as_json(self, upstream: Upstream, tools: Tools) -> None:
        subject = self.make(upstream, tools, options={"edits": "json"})
        await subject.generate(self.edit(count=2, mask=mask()), progress())
        body = upstream.calls()[0].body
        assert len(body["images"]) == 2
        assert body["mask"]["image_url"].startswith("data:image/png;base64,")

    async def test_a_large_picture_is_sent_without_a_warning(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        heavy = replace(source(), data=pictures.heavy(3_000_000))
        await subject.generate(self.edit(images=(heavy,)), progress())
        assert upstream.calls()[0].parts[0].size == len(heavy.data)

    # -- reading ---------------------------------------------------------------------------------

    async def test_tokens_at_the_listed_price_come_to_what_the_upstream_bills(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        price = Price(input_text_tokens=5.0, input_image_tokens=8.0, output_image_tokens=30.0)
        deployment = self.deployment(upstream, price=price)
        reply = await subject.generate(self.edit(n=2, quality="high"), progress())
        cost = cost_of_reply(reply, Request(prompt=PROMPT, n=2), deployment)
        assert cost.amount == pytest.approx(upstream.ledger.bill()["total"], abs=1e-9)

    @pytest.mark.parametrize("token", ["", "[[relative-url]]"])
    async def test_a_picture_given_by_url_is_fetched_without_the_key_where_it_leads_away(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        order = self.order(f"{PROMPT} {token}", model="local-flux")
        assert picture(await subject.generate(order, progress())).data.startswith(b"\x89PNG")

    @pytest.mark.parametrize("token", ["expired-url", "dead-url", "private-url"])
    async def test_a_picture_that_cannot_be_fetched_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]]", model="local-flux"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert unknown(error)

    @pytest.mark.parametrize("shape", ["string", "detail"])
    async def test_errors_of_servers_of_another_make_are_understood(
        self, upstream: Upstream, subject: Provider, shape: str
    ) -> None:
        error = await failure(subject, self.order(f"[[error:{shape}]] [[400]]", model="local-flux"))
        assert error.code is FailureCode.INVALID_REQUEST
        assert error.message == "The fake upstream says invalid."

    async def test_a_limit_that_waiting_does_not_lift_is_not_waited_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[429]] [[no-retry]]"))
        assert error.code is FailureCode.BILLING

    async def test_an_invalid_size_is_explained_in_the_upstream_s_words(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order(width=1000, height=1000))
        assert error.code is FailureCode.INVALID_REQUEST
        assert error.message == "Invalid size '1000x1000'."

    async def test_an_input_that_is_no_picture_is_an_invalid_image(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        broken = replace(source(), data=b"not a picture")
        error = await failure(subject, self.edit(images=(broken,)))
        assert error.code is FailureCode.INVALID_IMAGE

    # -- streams ---------------------------------------------------------------------------------

    async def test_previews_come_before_their_picture(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        previews: list[Partial] = []
        order = self.order(n=2, partial_images=2)
        reply = await subject.generate(order, progress(previewed=previews))
        assert [(p.index, p.sequence) for p in previews] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert len({p.data for p in previews} | {p.data for p in made(reply)}) == 6
        assert upstream.calls()[0].body["stream"] is True

    async def test_a_streamed_edit_says_so_in_strings(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        previews: list[Partial] = []
        await subject.generate(self.edit(partial_images=1), progress(previewed=previews))
        assert len(previews) == 1

    async def test_the_events_of_a_stream_sum_up_to_its_bill(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        price = Price(input_text_tokens=5.0, input_image_tokens=8.0, output_image_tokens=30.0)
        reply = await subject.generate(self.order(n=3, partial_images=1), progress())
        cost = cost_of_reply(reply, Request(prompt=PROMPT), self.deployment(upstream, price=price))
        assert cost.amount == pytest.approx(upstream.ledger.bill()["total"], abs=1e-9)

    @pytest.mark.parametrize("token", ["early-end:1", "error-event:1"])
    async def test_a_stream_that_breaks_keeps_the_pictures_that_came(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        order = self.order(f"[[{token}]]", n=3, partial_images=1)
        reply = await subject.generate(order, progress())
        assert len(made(reply)) == 1
        lost = [outcome for outcome in reply.outcomes if isinstance(outcome, Failure)]
        assert len(lost) == 2

    @pytest.mark.parametrize("token", ["early-end", "drop"])
    async def test_a_stream_without_any_picture_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]]", partial_images=1))
        assert unknown(error)

    async def test_a_stream_that_goes_silent_ends_at_the_timeout_with_what_came(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, timeout=0.6)
        order = self.order("[[drip:1.6]]", n=3, partial_images=1)
        reply = await subject.generate(order, progress())
        assert len(made(reply)) == 1

    async def test_a_server_that_does_not_stream_is_read_all_the_same(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order("[[no-stream]]", model="local-flux", partial_images=2)
        assert picture(await subject.generate(order, progress()))


class TestAzure(ProviderSuite):
    provider = "openai"
    place = "/azure/openai/deployments/gpt-image-2"
    model = "gpt-image-2"
    n = 3
    options: ClassVar[dict[str, Any]] = {"auth": "api-key", "api_version": "2026-04-01"}

    async def test_the_version_is_asked_for(self, upstream: Upstream, subject: Provider) -> None:
        await subject.generate(self.edit(), progress())
        assert upstream.calls()[0].query == {"api-version": "2026-04-01"}
