import io

import pytest
from PIL import Image

from storage.container import inspect
from storage.failure import FailureCode
from tests.suites.provider import ProviderSuite, failure, picture, progress, source
from tests.unit.worker.providers.masks import WithPixels, half_mask, is_white_on_the_left
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.imaging import Imaging
from worker.provider import Provider, Tools


class TestStability(ProviderSuite):
    provider = "stability"
    place = "/stability"
    model = "ultra"
    exact_size = False

    async def test_a_form_is_sent_even_without_a_file(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(aspect_ratio="16:9", seed=7, negative_prompt="fog", output_format="webp")
        reply = await subject.generate(order, progress())
        (call,) = upstream.calls()
        assert call.headers["Content-Type"].startswith("multipart/form-data")
        assert call.body == {
            "prompt": order.prompt,
            "negative_prompt": "fog",
            "aspect_ratio": "16:9",
            "seed": "7",
            "output_format": "webp",
        }
        facts = inspect(picture(reply).data)
        assert (facts.format, facts.width, facts.height) == ("webp", 1024, 576)

    async def test_the_sd3_family_shares_a_service_and_names_its_model(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, upstream_model="sd3.5-medium")
        await subject.generate(self.order(model="sd3.5-medium"), progress())
        await subject.generate(self.edit(model="sd3.5-medium"), progress())
        made, edited = upstream.calls()
        assert made.path.endswith("/generate/sd3")
        assert (made.body["model"], made.body["mode"]) == ("sd3.5-medium", "text-to-image")
        assert (edited.body["mode"], edited.body["strength"]) == ("image-to-image", "0.65")
        assert "aspect_ratio" not in edited.body

    async def test_how_far_an_edit_goes_is_the_operator_s_choice(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"strength": 0.3})
        await subject.generate(self.edit(), progress())
        assert upstream.calls()[0].body["strength"] == "0.3"

    async def test_moderation_with_403_is_not_a_matter_of_the_key(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[refuse:input]]"))
        assert error.code is FailureCode.CONTENT_POLICY
        assert "moderation" in error.message

    @pytest.mark.parametrize("name", ["model", "mode", "image", "prompt"])
    async def test_further_fields_do_not_replace_what_the_order_says(
        self, upstream: Upstream, subject: Provider, name: str
    ) -> None:
        await subject.generate(self.order(options={name: "x"}), progress())
        assert upstream.calls()[0].body.get(name) != "x"


class TestStabilityWithinAMask(WithPixels):
    suite = TestStability()

    async def test_the_mask_is_white_where_the_picture_may_change(self, tools: Tools) -> None:
        async with server.running() as upstream:
            sent: list[bytes] = []
            subject = self.suite.make(upstream, Tools(web=tools.web, imaging=Heard(sent, tools)))
            order = self.suite.edit(images=(source(side=64),), mask=half_mask())
            assert picture(await subject.generate(order, progress()))
            (call,) = upstream.calls()
        assert call.path.endswith("/edit/inpaint")
        assert [part.name for part in call.parts] == ["image", "mask"]
        assert [part.size for part in call.parts][1] == len(sent[0])
        assert is_white_on_the_left(sent[0])
        assert Image.open(io.BytesIO(sent[0])).size == (64, 64)


class Heard(Imaging):
    """The door to the pixels, which notes what came out of it."""

    def __init__(self, sent: list[bytes], tools: Tools) -> None:
        super().__init__(children=1)
        self._sent = sent
        self._tools = tools

    async def mask_to_white(self, mask: bytes) -> bytes:
        white = await self._tools.imaging.mask_to_white(mask)
        self._sent.append(white)
        return white
