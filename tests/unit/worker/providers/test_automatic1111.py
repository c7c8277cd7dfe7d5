import base64

import pytest

from storage.container import inspect
from storage.dialect import Capabilities
from storage.failure import FailureCode
from tests.suites.provider import (
    ProviderSuite,
    failure,
    made,
    picture,
    progress,
    source,
    unknown,
)
from tests.unit.worker.providers.masks import WithPixels, half_mask, is_white_on_the_left
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.provider import Provider, Tools


class TestAutomatic1111(ProviderSuite):
    provider = "automatic1111"
    place = "/automatic1111"
    model = "checkpoint"
    n = 3
    moderates = False
    refuses_output = False

    async def test_a_login_is_sent_as_basic_and_none_is_sent_without(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        await self.make(upstream, tools, key="ann:secret").generate(self.order(), progress())
        await self.make(upstream, tools, key=None).generate(self.order(), progress())
        assert [call.key for call in upstream.calls()] == ["ann:secret", "nobody"]

    async def test_a_grid_before_the_pictures_is_left_out(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order("[[grid]]", n=2), progress())
        assert {inspect(outcome.data).width for outcome in made(reply)} == {1024}
        assert len(made(reply)) == 2

    @pytest.mark.parametrize(
        ("side", "edge"), [(64, 64), (100, 96), (4096, 2048)], ids=["kept", "stepped", "shrunk"]
    )
    async def test_an_edit_without_a_size_keeps_that_of_the_picture(
        self, upstream: Upstream, tools: Tools, side: int, edge: int
    ) -> None:
        subject = self.make(upstream, tools, capabilities=Capabilities(edit=True, max_edge=2048))
        order = self.edit(images=(source(side=side),), width=None, height=None)
        reply = await subject.generate(order, progress())
        facts = inspect(picture(reply).data)
        assert (facts.width, facts.height) == (edge, edge)

    async def test_a_checkpoint_is_loaded_and_stays(self, upstream: Upstream, tools: Tools) -> None:
        subject = self.make(upstream, tools, options={"checkpoint": "sdxl"})
        await subject.generate(self.order(), progress())
        (call,) = upstream.calls()
        assert call.model == "sdxl"
        assert call.body["override_settings_restore_afterwards"] is False

    async def test_a_tenant_cannot_run_scripts_at_the_server_but_its_operator_can(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"body": {"steps": 9, "save_images": True}})
        options = {"script_name": "x", "override_settings": {}, "save_images": False, "steps": 12}
        await subject.generate(self.order(options=options), progress())
        body = upstream.calls()[0].body
        assert (body["steps"], body["save_images"]) == (12, True)
        assert not {"script_name", "override_settings"} & body.keys()

    async def test_running_out_of_memory_was_not_paid_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[memory]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert not unknown(error)

    async def test_pictures_come_one_after_another_and_waiting_is_normal(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order("[[slow:0.3]]"), progress())
        assert picture(reply)


class TestAutomatic1111WithinAMask(WithPixels):
    suite = TestAutomatic1111()

    async def test_the_mask_is_white_where_the_picture_may_change(self, tools: Tools) -> None:
        async with server.running() as upstream:
            subject = self.suite.make(upstream, tools)
            order = self.suite.edit(images=(source(side=64),), mask=half_mask(), width=None)
            assert picture(await subject.generate(order, progress()))
            body = upstream.calls()[0].body
        assert is_white_on_the_left(body["mask"])
        assert base64.b64decode(body["init_images"][0]) == source(side=64).data
