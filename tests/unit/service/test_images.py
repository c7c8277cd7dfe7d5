import asyncio
import base64
import io
from typing import Any

import pytest
from aiohttp import FormData

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from tests.unit.service.conftest import Front, Start
from tests.unit.service.pictures import png


ASK = {"prompt": "a lighthouse", "size": "64x64"}
GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"


def edit_form(**fields: str) -> FormData:
    form = FormData({"prompt": "make it blue", **fields})
    form.add_field("image", png(48, 48), filename="a.png", content_type="image/png")
    return form


class TestGenerations:
    async def test_base64_comes_by_default(self, working: Front) -> None:
        answer = await working.post(GENERATIONS, {**ASK, "n": 2})
        body = await answer.json()
        assert answer.status == 200
        assert isinstance(body["created"], int)
        assert [base64.b64decode(image["b64_json"]) for image in body["data"]] == [png()] * 2
        assert (body["size"], body["output_format"]) == ("64x64", "png")
        assert int(answer.headers["Content-Length"]) == len(await answer.read())
        assert body["job_id"] == answer.headers["X-Job-Id"]

    async def test_links_come_when_asked_for(self, working: Front) -> None:
        answer = await working.post(GENERATIONS, {**ASK, "response_format": "url"})
        (image,) = (await answer.json())["data"]
        target = image["url"].removeprefix("http://front.test")
        assert await (await working.client.get(target)).read() == png()

    async def test_counted_tokens_are_shown_as_openai_does(self, working: Front) -> None:
        working.worker.usage = Usage(
            input_tokens=18, input_text_tokens=18, output_tokens=1756, output_image_tokens=1756
        )
        body = await (await working.post(GENERATIONS, ASK)).json()
        assert body["usage"] == {
            "input_tokens": 18,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 18},
            "output_tokens": 1756,
            "output_tokens_details": {"image_tokens": 1756, "text_tokens": 0},
            "total_tokens": 1774,
        }

    async def test_a_partial_job_answers_with_what_was_made(self, working: Front) -> None:
        working.worker.failed = frozenset({0})
        answer = await working.post(GENERATIONS, {**ASK, "n": 2})
        assert answer.status == 200
        assert len((await answer.json())["data"]) == 1

    @pytest.mark.parametrize(
        ("code", "status", "told"),
        [
            (FailureCode.CONTENT_POLICY, 400, "moderation_blocked"),
            (FailureCode.INVALID_REQUEST, 400, "invalid_request"),
            (FailureCode.RATE_LIMITED, 429, "rate_limit_exceeded"),
            (FailureCode.UPSTREAM_ERROR, 502, "upstream_error"),
            (FailureCode.UPSTREAM_TIMEOUT, 504, "upstream_timeout"),
            (FailureCode.NO_DEPLOYMENT, 503, "no_deployment"),
            (FailureCode.INTERNAL_CRASH, 500, "internal_crash"),
        ],
    )
    async def test_a_failed_job_becomes_an_error(
        self, working: Front, code: FailureCode, status: int, told: str
    ) -> None:
        working.worker.failure = Failure(code=code, message="It went wrong.")
        answer = await working.post(GENERATIONS, ASK)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (status, told)
        assert error["message"] == "It went wrong."
        assert answer.headers["x-should-retry"] == "false"

    def test_every_failure_has_a_status(self) -> None:
        from service.errors import _FAILURES  # noqa: PLC0415 — the table is nobody's business

        assert set(_FAILURES) == set(FailureCode)

    async def test_unknown_fields_are_ignored_and_named(self, working: Front) -> None:
        body = await (await working.post(GENERATIONS, {**ASK, "sampler": "x"})).json()
        assert body["warnings"] == [{"param": "sampler", "action": "dropped", "requested": None}]

    async def test_null_means_not_set(self, working: Front) -> None:
        ask = {**ASK, "n": None, "style": None, "user": None, "stream": None}
        assert (await working.post(GENERATIONS, ask)).status == 200

    async def test_an_image_that_is_gone_is_told_by_the_status(self, working: Front) -> None:
        answer = await working.post(GENERATIONS, ASK, headers={"Idempotency-Key": "k"})
        job_id = answer.headers["X-Job-Id"]
        await working.context.objects.delete(await working.kept(f"t/alice/{job_id}/"))
        again = await working.post(GENERATIONS, ASK, headers={"Idempotency-Key": "k"})
        assert again.status == 404


class TestPreferences:
    async def test_respond_async_answers_202_at_once(self, front: Front) -> None:
        answer = await front.post(GENERATIONS, ASK, headers={"Prefer": "respond-async"})
        job = await answer.json()
        assert answer.status == 202
        assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
        assert answer.headers["Preference-Applied"] == "respond-async"

    async def test_wait_and_respond_async_wait_first(self, working: Front) -> None:
        answer = await working.post(GENERATIONS, ASK, headers={"Prefer": "wait=3, respond-async"})
        assert answer.status == 200
        assert "data" in await answer.json()

    async def test_whoever_prefers_nothing_is_told_where_to_go_on(self, start: Start) -> None:
        front = await start()
        limits = front.context.settings.limits.model_copy(update={"max_wait": 0.05})
        quick = await start(limits=limits)
        answer = await quick.post(GENERATIONS, ASK)
        assert answer.status == 504
        assert (await answer.json())["error"]["code"] == "still_running"
        assert answer.headers["Location"].startswith("/v1/jobs/job_")
        assert answer.headers["x-should-retry"] == "false"

    async def test_a_client_that_hung_up_finds_its_job_again(self, front: Front) -> None:
        headers = {"Idempotency-Key": "once"}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(front.post(GENERATIONS, ASK, headers=headers), 0.2)
        assert await front.queued() == 1
        (job,) = (await front.context.jobs.listing.page("alice", limit=5)).jobs
        await front.worker.finish(job)
        answer = await front.post(GENERATIONS, ASK, headers=headers)
        assert answer.status == 200
        assert answer.headers["X-Job-Id"] == job.id
        assert len(front.worker.made) == 1

    async def test_fifty_at_once_with_one_key_get_one_image(self, working: Front) -> None:
        headers = {"Idempotency-Key": "fifty"}
        answers = await asyncio.gather(
            *(working.post(GENERATIONS, ASK, headers=headers) for _ in range(50))
        )
        assert {answer.status for answer in answers} == {200}
        assert len({answer.headers["X-Job-Id"] for answer in answers}) == 1
        assert len(working.worker.made) == 1


class TestEdits:
    async def test_a_form_with_an_image_is_an_edit(self, working: Front) -> None:
        answer = await working.post(EDITS, data=edit_form(n="1", size="64x64"))
        assert answer.status == 200, await answer.text()
        (job,) = working.worker.made
        assert (job.type, len(job.request.images)) == ("edit", 1)
        assert job.request.images[0].width == 48

    @pytest.mark.parametrize("name", ["image", "image[]", "images", "image[0]"])
    async def test_files_may_be_named_in_any_usual_way(self, working: Front, name: str) -> None:
        form = FormData({"prompt": "x"})
        for value in (1, 2):
            form.add_field(name, png(value=value), filename="a.png")
        answer = await working.post(EDITS, data=form)
        assert answer.status == 200, await answer.text()
        assert len(working.worker.made[0].request.images) == 2

    async def test_a_mask_goes_with_it(self, working: Front) -> None:
        form = edit_form()
        form.add_field("mask", png(48, 48, alpha=True), filename="m.png")
        answer = await working.post(EDITS, data=form)
        assert answer.status == 200, await answer.text()
        mask = working.worker.made[0].request.mask
        assert mask is not None
        assert (mask.key or "").endswith("/in/1.png")

    @pytest.mark.parametrize(
        "images",
        [
            [{"image_url": "data:image/png;base64," + base64.b64encode(png()).decode()}],
            [{"image_url": "https://example.com/a.png"}],
        ],
    )
    async def test_json_names_its_images(self, working: Front, images: list[Any]) -> None:
        answer = await working.post(EDITS, {"prompt": "x", "images": images})
        assert answer.status == 200, await answer.text()
        assert working.worker.made[0].type == "edit"

    @pytest.mark.parametrize(
        ("mask", "param"),
        [(png(10, 10, alpha=True), "mask"), (b"no image", "mask"), (b"", "mask")],
        ids=["size", "text", "empty"],
    )
    async def test_a_bad_mask_is_refused(self, front: Front, mask: bytes, param: str) -> None:
        form = edit_form()
        form.add_field("mask", mask, filename="m.png")
        answer = await front.post(EDITS, data=form)
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == param
        assert await front.kept() == []

    async def test_an_edit_without_an_image_is_refused(self, front: Front) -> None:
        answer = await front.post(EDITS, data=FormData({"prompt": "x"}, default_to_multipart=True))
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "image"

    async def test_the_seventeenth_image_is_refused(self, front: Front) -> None:
        form = FormData({"prompt": "x"})
        for value in range(17):
            form.add_field("image[]", png(value=value), filename="a.png")
        answer = await front.post(EDITS, data=form)
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "image")

    async def test_a_file_over_the_limit_ends_the_upload(self, start: Start) -> None:
        front = await start()
        limits = front.context.settings.limits.model_copy(update={"image_bytes": 100_000})
        small = await start(limits=limits)
        form = FormData({"prompt": "x"})
        form.add_field("image", io.BytesIO(png() + bytes(2_000_000)), filename="a.png")
        answer = await small.post(EDITS, data=form)
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "image_too_large"
        assert small.spooled() == []


class TestAStreamThatBreaks:
    async def test_a_body_that_stops_is_given_up(self, front: Front) -> None:
        async def drip() -> Any:
            yield b'{"prompt":'
            await asyncio.sleep(5)

        answer = await front.post(
            GENERATIONS, data=drip(), headers={"Content-Type": "application/json"}
        )
        assert answer.status == 408
        assert (await answer.json())["error"]["code"] == "body_timeout"

    async def test_a_body_that_drips_is_given_up(self, front: Front) -> None:
        async def drip() -> Any:
            for _ in range(40):
                yield b" "
                await asyncio.sleep(0.1)

        answer = await front.post(
            GENERATIONS, data=drip(), headers={"Content-Type": "application/json"}
        )
        assert answer.status == 408
