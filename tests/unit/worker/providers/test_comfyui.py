import json
from typing import Any, ClassVar

import pytest

from storage.failure import FailureCode
from tests.suites.provider import failure, made, picture, progress, source, unknown
from tests.suites.provider_task import FAST, TaskSuite
from tests.unit.worker.providers.graphs import EDIT, GENERATE, MASKED
from tests.unit.worker.providers.masks import WithPixels, half_mask, is_white_on_the_left
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.polling import Ticket
from worker.provider import Provider, Tools


class TestComfyUI(TaskSuite):
    provider = "comfyui"
    place = "/comfyui"
    model = "sdxl.safetensors"
    n = 3
    moderates = False
    refuses_output = False
    charges = False
    hints = True
    polls_at = "/history/"
    options: ClassVar = {
        **FAST,
        "workflow": GENERATE,
        "edit_workflow": EDIT,
        "mask_workflow": json.dumps(MASKED),
    }

    async def test_the_places_of_the_graph_are_filled_with_the_order(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(
            "a {{seed}} of wheat", seed=7, width=640, height=512, n=2, negative_prompt="fog"
        )
        reply = await subject.generate(order, progress())
        graph = upstream.calls()[0].body["prompt"]
        assert graph["5"]["inputs"] == {"width": 640, "height": 512, "batch_size": 2}
        assert graph["3"]["inputs"]["seed"] == 7
        assert graph["4"]["inputs"]["ckpt_name"] == self.model
        assert graph["6"]["inputs"]["text"] == "a {{seed}} of wheat"
        assert graph["7"]["inputs"]["text"] == "fog"
        assert graph["9"]["inputs"]["filename_prefix"] == "Darkroom 7"
        assert len(made(reply)) == 2

    async def test_a_seed_that_was_not_given_is_the_same_for_the_same_job_only(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        for changes in ({}, {"attempt": 2}, {"first_index": 1}, {"job_id": "job_2"}):
            await subject.generate(self.order(**changes), progress())
        seeds = [call.body["prompt"]["3"]["inputs"]["seed"] for call in self.submits(upstream)]
        assert seeds[0] == seeds[1]
        assert len(set(seeds)) == 3

    async def test_the_id_is_ours_and_on_record_before_the_task_is_there(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order, seen = self.order(), list[int]()

        async def submitted(_: str) -> None:
            seen.append(len(self.submits(upstream)))

        quiet, ids = progress(), list[str]()
        await subject.generate(order, type(quiet)(submitted=submitted, previewed=quiet.previewed))
        await subject.generate(order, progress(ids))
        assert seen == [0]
        sent = [call.body["prompt_id"] for call in self.submits(upstream)]
        assert sent[0] == sent[1] == Ticket.read(ids[0]).id

    async def test_a_task_recorded_but_never_queued_is_lost_and_free(
        self, upstream: Upstream, subject: Any
    ) -> None:
        error = await failure(subject, self.order("[[drop]]"))
        assert unknown(error)
        lost = Ticket(id="00000000-0000-0000-0000-000000000000")
        with pytest.raises(Exception, match="does not know its task") as raised:
            await subject.resume(self.order(), str(lost), progress())
        assert raised.value.code is FailureCode.UPSTREAM_ERROR  # type: ignore[attr-defined]  # a ProviderError
        assert len(self.submits(upstream)) == 1

    async def test_pictures_are_uploaded_under_names_of_ours(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(), progress())
        upload, submit = upstream.calls()[:2]
        (part,) = upload.parts
        assert part.filename == submit.body["prompt"]["10"]["inputs"]["image"]
        assert part.filename == f"{submit.body['prompt_id']}_1.png"
        assert part.sha256

    async def test_previews_among_the_outputs_are_no_results(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order("[[preview]]", n=2), progress())
        assert len(made(reply)) == 2

    @pytest.mark.parametrize(
        ("token", "code", "words"),
        [
            ("node-error", FailureCode.INVALID_REQUEST, "Value not in list"),
            ("interrupted", FailureCode.UPSTREAM_ERROR, "interrupted"),
            ("fail", FailureCode.UPSTREAM_ERROR, "out of memory"),
        ],
    )
    async def test_a_bad_end_is_told_without_the_paths_of_the_machine(
        self, upstream: Upstream, subject: Provider, token: str, code: FailureCode, words: str
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]]"))
        assert error.code is code
        assert words in error.message
        assert "/root" not in error.message

    async def test_a_deployment_without_a_graph_for_edits_leaves_them_to_others(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"workflow": GENERATE})
        error = await failure(subject, self.edit())
        assert error.code is FailureCode.MODEL_NOT_FOUND
        assert error.message == "The deployment has no edit workflow."
        assert upstream.calls() == []

    async def test_a_place_that_nothing_fills_is_named(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        graph = {"1": {"class_type": "SaveImage", "inputs": {"images": "{{lora}}"}}}
        subject = self.make(upstream, tools, options={"workflow": graph})
        error = await failure(subject, self.order())
        assert error.code is FailureCode.INVALID_REQUEST
        assert "'lora'" in error.message

    async def test_places_of_one_s_own_have_values_that_a_caller_may_replace(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        graph = {**GENERATE, "9": {**GENERATE["9"]}}
        graph["9"]["inputs"] = {"images": ["8", 0], "filename_prefix": "{{folder}}"}
        options = {**FAST, "workflow": graph, "values": {"folder": "ours"}}
        subject = self.make(upstream, tools, options=options)
        await subject.generate(self.order(), progress())
        await subject.generate(self.order(options={"folder": "theirs", "seed": 1}), progress())
        graphs = [call.body["prompt"] for call in self.submits(upstream)]
        assert [g["9"]["inputs"]["filename_prefix"] for g in graphs] == ["ours", "theirs"]
        assert graphs[0]["3"]["inputs"]["seed"] == graphs[1]["3"]["inputs"]["seed"] != 1

    async def test_a_caller_cannot_name_somebody_else_s_file(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={**FAST, "workflow": EDIT})
        error = await failure(subject, self.order(options={"image": "secret.png"}))
        assert error.code is FailureCode.INVALID_REQUEST
        assert "'image'" in error.message


class TestComfyUIWithinAMask(WithPixels):
    suite = TestComfyUI()

    async def test_the_mask_is_white_where_the_picture_may_change(self, tools: Tools) -> None:
        async with server.running() as upstream:
            subject = self.suite.make(upstream, tools)
            order = self.suite.edit(images=(source(side=64),), mask=half_mask())
            assert picture(await subject.generate(order, progress()))
            image, mask, submit = upstream.calls()[:3]
            graph = submit.body["prompt"]
        assert graph["10"]["inputs"]["image"] == image.parts[0].filename
        assert graph["12"]["inputs"]["image"] == mask.parts[0].filename
        white = await tools.imaging.mask_to_white(half_mask().data)
        assert mask.parts[0].size == len(white)
        assert is_white_on_the_left(white)
