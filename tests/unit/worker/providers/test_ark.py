import io

import pytest
from PIL import Image

from storage.catalog import Price
from storage.container import inspect
from storage.dialect import Capabilities
from storage.failure import Failure, FailureCode
from storage.request import Adaptation, Request
from tests.suites.provider import (
    PROMPT,
    ProviderSuite,
    failure,
    made,
    picture,
    progress,
    source,
    unknown,
)
from tests.upstream.server import Upstream
from worker.pricing import cost_of_reply
from worker.provider import Provider, Tools


GROUPS = Capabilities(edit=True, references=14, n=3, formats=("jpeg",), watermark=True)
STREAMS = Capabilities(
    edit=True, references=14, n=3, formats=("jpeg",), watermark=True, stream=True
)


class TestArk(ProviderSuite):
    provider = "ark"
    place = "/ark/api/v3"
    model = "doubao-seedream-4-0-250828"

    async def test_a_watermark_is_only_made_when_it_is_asked_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        plain = await subject.generate(self.order(), progress())
        marked = await subject.generate(self.order(watermark=True), progress())
        assert [call.body["watermark"] for call in upstream.calls()] == [False, True]
        assert not has_mark(picture(plain).data)
        assert has_mark(picture(marked).data)

    async def test_one_picture_is_sent_alone_and_several_as_a_list(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(count=1), progress())
        await subject.generate(self.edit(images=(source(0), source(1, format_="jpeg"))), progress())
        one, two = (call.body["image"] for call in upstream.calls())
        assert one.startswith("data:image/png;base64,")
        assert [url.partition(";")[0] for url in two] == ["data:image/png", "data:image/jpeg"]

    async def test_neither_n_nor_previews_are_asked_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.order(partial_images=2), progress())
        assert upstream.calls()[0].body == {
            "model": self.model,
            "prompt": PROMPT,
            "size": "1024x1024",
            "response_format": "b64_json",
            "watermark": False,
        }

    async def test_a_format_is_asked_for_where_there_is_a_choice(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        choice = Capabilities(edit=True, formats=("jpeg", "png"), watermark=True)
        subject = self.make(upstream, tools, capabilities=choice)
        order = self.order(model="doubao-seedream-5-5-261028", output_format="png")
        assert inspect(picture(await subject.generate(order, progress())).data).format == "png"

    async def test_a_format_is_not_asked_for_where_there_is_none(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, capabilities=GROUPS)
        await subject.generate(self.order(output_format="jpeg"), progress())
        assert "output_format" not in upstream.calls()[0].body

    async def test_a_tier_stands_for_the_size_and_loses_the_ratio(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(width=None, height=None, resolution="2K", aspect_ratio="16:9")
        reply = await subject.generate(order, progress())
        assert upstream.calls()[0].body["size"] == "2K"
        assert reply.adaptations == (
            Adaptation(param="aspect_ratio", action="dropped", requested="16:9"),
        )

    async def test_options_add_fields_and_replace_none(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        body = {"guidance_scale": 3.5, "watermark": True}
        subject = self.make(upstream, tools, options={"body": body})
        order = self.order(model="doubao-seedream-3-0-t2i-250415", seed=7, options={"stream": True})
        await subject.generate(order, progress())
        sent = upstream.calls()[0].body
        assert (sent["guidance_scale"], sent["seed"]) == (3.5, 7)
        assert sent["watermark"] is False
        assert "stream" not in sent

    # -- groups ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("can", [GROUPS, STREAMS])
    async def test_a_group_is_one_call(
        self, upstream: Upstream, tools: Tools, can: Capabilities
    ) -> None:
        subject = self.make(upstream, tools, capabilities=can)
        reply = await subject.generate(self.order(n=3), progress())
        assert len({one.data for one in made(reply)}) == 3
        (call,) = upstream.calls()
        assert call.body["sequential_image_generation_options"] == {"max_images": 3}
        assert call.body.get("stream", False) is can.stream

    @pytest.mark.parametrize("can", [GROUPS, STREAMS])
    async def test_a_moderated_picture_does_not_take_the_group_along(
        self, upstream: Upstream, tools: Tools, can: Capabilities
    ) -> None:
        price = Price(per_image=0.03)
        deployment = self.deployment(upstream, price=price)
        subject = self.make(upstream, tools, capabilities=can)
        reply = await subject.generate(self.order("[[partial:2/3]]", n=3), progress())
        assert len(made(reply)) == 2
        left_out = reply.outcomes[2]
        assert isinstance(left_out, Failure)
        assert left_out.code is FailureCode.CONTENT_POLICY
        cost = cost_of_reply(reply, Request(prompt=PROMPT, n=3), deployment)
        assert cost.amount == pytest.approx(upstream.ledger.bill()["total"])

    async def test_a_group_that_breaks_off_keeps_its_finished_pictures(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, capabilities=STREAMS)
        reply = await subject.generate(self.order("[[early-end:2]]", n=3), progress())
        assert len(made(reply)) == 2
        lost = reply.outcomes[2]
        assert isinstance(lost, Failure)
        assert lost.code is FailureCode.OUTCOME_UNKNOWN

    async def test_a_group_that_comes_whole_although_a_stream_was_asked_for_is_read(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, capabilities=STREAMS)
        reply = await subject.generate(self.order("[[no-stream]]", n=3), progress())
        assert len(made(reply)) == 3

    @pytest.mark.parametrize("token", ["drop", "early-end"])
    async def test_a_group_without_any_picture_may_have_been_paid_for(
        self, upstream: Upstream, tools: Tools, token: str
    ) -> None:
        subject = self.make(upstream, tools, capabilities=STREAMS)
        assert unknown(await failure(subject, self.order(f"[[{token}]]", n=3)))

    # -- errors ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("code", "meant"),
        [
            ("AccountOverdueError", FailureCode.BILLING),
            ("ModelNotOpen", FailureCode.MODEL_NOT_FOUND),
            ("SetLimitExceeded", FailureCode.BILLING),
        ],
    )
    async def test_a_code_means_more_than_its_status(
        self, upstream: Upstream, subject: Provider, code: str, meant: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[code:{code}]]"))
        assert error.code is meant

    async def test_an_error_with_status_200_is_an_error(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[refuse:output]] [[error-200]]"))
        assert error.code is FailureCode.CONTENT_POLICY
        assert not unknown(error)

    async def test_a_size_below_the_model_s_is_refused_in_its_words(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order(model="doubao-seedream-4-5-251128"))
        assert error.code is FailureCode.INVALID_REQUEST
        assert "`size`" in error.message

    async def test_inputs_are_billed_where_the_model_does_so(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        price = Price(per_image=0.020, per_input_image=0.008)
        subject = self.make(upstream, tools)
        order = self.edit(count=2, model="doubao-seedream-5-5-261028")
        reply = await subject.generate(order, progress())
        request = Request(prompt=PROMPT, images=order.images)  # type: ignore[arg-type]  # counted only
        cost = cost_of_reply(reply, request, self.deployment(upstream, price=price))
        assert cost.amount == pytest.approx(upstream.ledger.bill()["total"])


def has_mark(data: bytes) -> bool:
    """Say whether the fake's watermark is in the lower right corner."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    red, green, blue = image.getpixel((image.width - 20, image.height - 20))  # type: ignore[misc]  # RGB
    return red > 200 and green < 60 and blue > 200
