from typing import ClassVar

import pytest

from storage.failure import FailureCode
from tests.suites.provider import failure, picture, progress, source, unknown
from tests.suites.provider_task import FAST, TaskSuite
from tests.unit.worker.providers.masks import WithPixels, half_mask, is_white_on_the_left
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.complaint import Complaint
from worker.polling import Ticket
from worker.provider import Provider, Tools
from worker.providers.fal import judge


class TestFal(TaskSuite):
    provider = "fal"
    place = "/fal"
    model = "fal-ai/flux-2-pro"
    n = 3
    hints = True
    polls_at = "/status"
    options: ClassVar = {**FAST, "edit_model": "fal-ai/flux-2-pro/edit"}

    async def test_an_edit_goes_to_the_app_for_edits_and_polls_below_its_owner_and_alias(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        ids: list[str] = []
        await subject.generate(self.edit(count=2), progress(ids))
        submit = upstream.calls()[0]
        assert submit.path == "/fal/fal-ai/flux-2-pro/edit"
        assert len(submit.body["image_urls"]) == 2
        assert "/fal/fal-ai/flux-2-pro/requests/" in Ticket.read(ids[0]).url

    async def test_pixels_are_an_object_and_tiers_are_words(
        self, upstream: Upstream, subject: Provider, tools: Tools
    ) -> None:
        await subject.generate(self.order(), progress())
        banana = self.make(upstream, tools, upstream_model="fal-ai/nano-banana-2")
        order = self.order(
            model="fal-ai/nano-banana-2",
            width=None,
            height=None,
            aspect_ratio="16:9",
            resolution="1K",
        )
        await banana.generate(order, progress())
        flux, nano = (call.body for call in self.submits(upstream))
        assert flux["image_size"] == {"width": 1024, "height": 1024}
        assert (nano["aspect_ratio"], nano["resolution"]) == ("16:9", "1K")

    async def test_a_black_picture_that_was_flagged_is_content_policy(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[refuse:output]]", n=2))
        assert error.code is FailureCode.CONTENT_POLICY
        assert not unknown(error)

    async def test_a_refusal_that_only_the_result_tells_is_final(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[late-refusal]]"))
        assert error.code is FailureCode.CONTENT_POLICY
        assert not unknown(error)
        results = [call for call in upstream.calls() if call.path.split("/")[-2] == "requests"]
        assert len(results) == 1

    async def test_a_single_image_is_a_result_too(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        assert picture(await subject.generate(self.order("[[single]]"), progress()))

    async def test_a_result_that_fails_in_passing_is_fetched_again(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        seen: list[str] = []

        async def submitted(ticket: str) -> None:
            seen.append(Ticket.read(ticket).id)
            upstream.rule(path=f"requests/{seen[0]}", status=502, times=2)

        quiet = progress()
        talking = type(quiet)(submitted=submitted, previewed=quiet.previewed)
        assert picture(await subject.generate(self.order("[[polls:0]]"), talking))
        assert len(self.submits(upstream)) == 1


class TestFalWithinAMask(WithPixels):
    suite = TestFal()

    async def test_the_mask_is_white_where_the_picture_may_change(self, tools: Tools) -> None:
        app = "fal-ai/flux-lora/inpainting"
        async with server.running() as upstream:
            subject = self.suite.make(
                upstream, tools, upstream_model=app, options={**FAST, "image_field": "image_url"}
            )
            order = self.suite.edit(model=app, images=(source(side=64),), mask=half_mask())
            assert picture(await subject.generate(order, progress()))
            body = upstream.calls()[0].body
        assert is_white_on_the_left(body["mask_url"])
        assert body["image_url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("content_policy_violation", FailureCode.CONTENT_POLICY),
        ("image_too_large", FailureCode.INVALID_IMAGE),
        ("file_download_error", FailureCode.INVALID_IMAGE),
        ("no_media_generated", FailureCode.NO_IMAGE),
        ("value_error", FailureCode.INVALID_REQUEST),
    ],
)
def test_the_type_of_a_detail_says_what_went_wrong(kind: str, code: FailureCode) -> None:
    error = {"detail": [{"loc": ["body", "image_url"], "msg": "no", "type": kind}]}
    assert judge(Complaint(status=422, error=error)) is code
