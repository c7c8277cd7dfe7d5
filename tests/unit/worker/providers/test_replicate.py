from typing import ClassVar

import pytest

from storage.failure import FailureCode
from tests.suites.provider import failure, picture, progress, source, unknown
from tests.suites.provider_task import FAST, TaskSuite
from tests.unit.worker.providers.masks import WithPixels, half_mask, is_white_on_the_left
from tests.upstream import pictures, server
from tests.upstream.server import Upstream
from worker.provider import Provider, Source, Tools


class TestReplicate(TaskSuite):
    provider = "replicate"
    place = "/replicate/v1"
    model = "black-forest-labs/flux-2-pro"
    exact_size = False
    hints = True
    polls_at = "/v1/predictions/"

    async def test_formats_and_tiers_have_the_model_s_own_names(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={**FAST, "resolutions": {"1K": "1 MP"}})
        order = self.order(output_format="jpeg", resolution="1K", output_compression=80)
        reply = await subject.generate(order, progress())
        wanted = upstream.calls()[0].body["input"]
        assert (wanted["output_format"], wanted["resolution"]) == ("jpg", "1 MP")
        assert wanted["output_quality"] == 80
        assert picture(reply).data.startswith(b"\xff\xd8\xff")

    async def test_a_large_input_is_uploaded_and_a_small_one_is_not(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        large = Source(
            data=pictures.heavy(400_000),
            content_type="image/png",
            filename="x.png",
            width=1024,
            height=1024,
        )
        await subject.generate(self.edit(images=(source(), large)), progress())
        first, second = self.submits(upstream)[0].body["input"]["input_images"]
        assert first.startswith("data:image/png;base64,")
        assert second.startswith("http://127.0.0.1:")
        assert [call.path for call in upstream.calls()].count("/replicate/v1/files") == 1

    async def test_an_edit_has_further_fields_of_its_own(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        options = {**FAST, "edit_body": {"aspect_ratio": "match_input_image"}}
        subject = self.make(upstream, tools, options=options)
        await subject.generate(self.edit(aspect_ratio=None), progress())
        await subject.generate(self.edit(aspect_ratio="16:9"), progress())
        await subject.generate(self.order(aspect_ratio=None), progress())
        ratios = [call.body["input"].get("aspect_ratio") for call in self.submits(upstream)]
        assert ratios == ["match_input_image", "16:9", None]

    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("nsfw", FailureCode.CONTENT_POLICY),
            ("refuse:input", FailureCode.CONTENT_POLICY),
            ("aborted", FailureCode.UPSTREAM_ERROR),
            ("canceled", FailureCode.UPSTREAM_ERROR),
            ("fail", FailureCode.UPSTREAM_ERROR),
        ],
    )
    async def test_a_bad_end_is_told_by_its_status_and_its_text(
        self, upstream: Upstream, subject: Provider, token: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]]"))
        assert error.code is code
        assert not unknown(error)

    @pytest.mark.parametrize(
        ("model", "options", "path"),
        [
            ("a/b", {}, "/replicate/v1/models/a/b/predictions"),
            ("a/b:v1", {}, "/replicate/v1/predictions"),
            ("a/b", {"deployment": True}, "/replicate/v1/deployments/a/b/predictions"),
        ],
    )
    async def test_the_name_of_the_model_decides_the_route(
        self, upstream: Upstream, tools: Tools, model: str, options: dict[str, bool], path: str
    ) -> None:
        subject = self.make(upstream, tools, options=options)
        error = await failure(subject, self.order(model=model))
        assert error.code is FailureCode.MODEL_NOT_FOUND
        assert upstream.calls()[0].path == path
        assert upstream.calls()[0].body.get("version") == (model if ":" in model else None)


class TestReplicateMany(TaskSuite):
    """A model with several outputs."""

    provider = "replicate"
    place = "/replicate/v1"
    model = "black-forest-labs/flux-schnell"
    edits = False
    n = 3
    exact_size = False
    hints = True
    polls_at = "/v1/predictions/"


class TestReplicateWithinAMask(WithPixels):
    suite = TestReplicate()
    options: ClassVar = {**FAST, "image_field": "image"}

    async def test_the_mask_is_white_where_the_picture_may_change(self, tools: Tools) -> None:
        model = "black-forest-labs/flux-fill-pro"
        async with server.running() as upstream:
            subject = self.suite.make(upstream, tools, upstream_model=model, options=self.options)
            order = self.suite.edit(model=model, images=(source(side=64),), mask=half_mask())
            assert picture(await subject.generate(order, progress()))
            wanted = upstream.calls()[0].body["input"]
        assert is_white_on_the_left(wanted["mask"])
        assert wanted.keys() == {"prompt", "image", "mask"}
