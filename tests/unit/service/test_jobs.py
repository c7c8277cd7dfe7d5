import asyncio
import base64
import hashlib
import io
import json

import pytest
from aiohttp import FormData

from storage import redis_keys
from storage.failure import Failure, FailureCode
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


ASK = {"prompt": "a lighthouse", "size": "64x64"}


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


class TestSubmitting:
    async def test_a_job_is_accepted_and_shown(self, front: Front) -> None:
        answer = await front.post("/v1/jobs", {**ASK, "n": 2, "metadata": {"order": "7"}})
        job = await answer.json()
        assert answer.status == 202
        assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
        assert int(answer.headers["Retry-After"]) > 0
        assert (job["object"], job["type"], job["status"]) == ("job", "generation", "queued")
        assert [image["status"] for image in job["images"]] == ["pending", "pending"]
        assert job["metadata"] == {"order": "7"}
        assert await front.queued() == 1
        shown = await (await front.get(f"/v1/jobs/{job['id']}")).json()
        assert {**shown, "queue_position": None} == job
        assert shown["queue_position"] == 0

    async def test_the_model_is_the_catalogs_default(self, front: Front) -> None:
        job = await (await front.post("/v1/jobs", ASK)).json()
        assert job["model"] == "sketch"

    async def test_an_alias_is_resolved_and_the_job_says_so(self, front: Front) -> None:
        job = await (await front.post("/v1/jobs", {"prompt": "x", "model": "dall-e-3"})).json()
        assert job["model"] == "gpt-image-2"
        assert job["warnings"] == [
            {
                "param": "model",
                "action": "adapted",
                "requested": "dall-e-3",
                "used": "gpt-image-2",
            }
        ]

    @pytest.mark.parametrize("picture", [png(), png(8, 8, alpha=True)])
    async def test_images_in_json_are_kept_before_the_job_exists(
        self, front: Front, picture: bytes
    ) -> None:
        plain = base64.b64encode(picture).decode()
        ask = {**ASK, "images": [data_url(picture), plain, {"image_url": plain}]}
        job = await (await front.post("/v1/jobs", ask)).json()
        assert job["type"] == "edit"
        assert await front.kept() == sorted(
            f"t/alice/{job['id']}/in/{number}.png" for number in range(3)
        )
        key = f"t/alice/{job['id']}/in/1.png"
        assert await front.context.objects.get(key, limit=1_000_000) == picture
        assert job["request"]["images"][0]["bytes"] == len(picture)

    async def test_a_url_is_left_for_the_worker(self, front: Front) -> None:
        ask = {**ASK, "images": ["https://example.com/a.png"]}
        answer = await front.post("/v1/jobs", ask)
        job = await front.context.jobs.find((await answer.json())["id"])
        assert job is not None
        assert job.request.images[0].url == "https://example.com/a.png"
        assert await front.kept() == []

    async def test_a_form_streams_its_files(self, front: Front) -> None:
        form = FormData({"prompt": "x", "n": "2", "strict": "false", "metadata[a]": "b"})
        form.add_field("image", png(32, 32), filename="../../etc/passwd")
        form.add_field("mask", png(32, 32, alpha=True), filename="m", content_type="text/html")
        answer = await front.post("/v1/jobs", data=form)
        job = await answer.json()
        assert answer.status == 202, job
        assert job["n"] == 2
        assert job["metadata"] == {"a": "b"}
        assert (job["request"]["mask"]["width"], job["type"]) == (32, "edit")
        assert await front.kept() == [
            f"t/alice/{job['id']}/in/0.png",
            f"t/alice/{job['id']}/in/1.png",
        ]

    async def test_a_large_file_goes_by_way_of_the_spool(self, front: Front) -> None:
        big = png(1200, 1200, value=7) + bytes(3_000_000)
        form = FormData({"prompt": "x"})
        form.add_field("image", io.BytesIO(big), filename="a.png")
        answer = await front.post("/v1/jobs", data=form)
        job = await answer.json()
        assert answer.status == 202, job
        stat = await front.context.objects.stat(f"t/alice/{job['id']}/in/0.png")
        assert stat is not None
        assert stat.size == len(big)
        assert job["request"]["images"][0]["sha256"] == hashlib.sha256(big).hexdigest()
        assert front.spooled() == []

    async def test_nothing_is_kept_of_a_job_that_is_refused(self, front: Front) -> None:
        ask = {"prompt": "x", "model": "glm-image", "images": [data_url(png())]}
        answer = await front.post("/v1/jobs", ask)
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "image"
        assert await front.kept() == []
        assert await front.queued() == 0

    async def test_every_job_has_a_deadline(self, front: Front) -> None:
        plain, late, hasty = [
            await (await front.post("/v1/jobs", {**ASK, **more})).json()
            for more in ({}, {"start_within": 600}, {"end_within": 30})
        ]
        hours = front.context.settings.limits.job_hours
        for answer, seconds in ((plain, hours * 3600), (late, hours * 3600 + 600), (hasty, 30)):
            job = await front.context.jobs.find(answer["id"])
            assert job is not None
            assert job.deadline is not None
            assert abs(job.deadline - job.created_at - seconds) < 0.01

    async def test_start_within_becomes_a_moment(self, front: Front) -> None:
        answer = await front.post("/v1/jobs", {**ASK, "start_within": 30})
        job = await front.context.jobs.find((await answer.json())["id"])
        assert job is not None
        assert job.start_by == pytest.approx(job.created_at + 30)

    async def test_strict_names_what_would_be_lost(self, front: Front) -> None:
        ask = {"prompt": "x", "model": "sketch", "style": "vivid", "strict": True}
        answer = await front.post("/v1/jobs", ask)
        assert answer.status == 400
        error = (await answer.json())["error"]
        assert (error["param"], error["code"]) == ("style", "not_applicable")
        del ask["style"]
        assert (await front.post("/v1/jobs", ask)).status == 202

    async def test_a_job_over_its_own_limit_of_money_is_refused(self, front: Front) -> None:
        ask = {**ASK, "n": 3, "max_cost": 0.02}
        answer = await front.post("/v1/jobs", ask)
        assert (await answer.json())["error"]["param"] == "max_cost"
        assert (await front.post("/v1/jobs", {**ask, "n": 2})).status == 202

    async def test_a_model_that_no_worker_can_serve_is_unavailable(self, front: Front) -> None:
        now = front.context.clock()
        await front.redis.zadd(redis_keys.DEPLOYMENTS_ON, {"sketch": now, "openai": now - 61})
        refused = await front.post("/v1/jobs", {"prompt": "x", "model": "gpt-image-2"})
        assert refused.status == 503
        assert (await refused.json())["error"]["code"] == "model_unavailable"
        assert "Retry-After" in refused.headers
        assert (await front.post("/v1/jobs", ASK)).status == 202

    async def test_every_answer_carries_a_request_id(self, front: Front) -> None:
        ours = await front.get("/nowhere")
        assert ours.headers["X-Request-Id"].startswith("req_")
        theirs = await front.get("/v1/jobs", headers={"X-Request-Id": "mine-1"})
        assert theirs.headers["X-Request-Id"] == "mine-1"
        assert theirs.headers["Server"] == "darkroom"


class TestWaiting:
    async def test_the_answer_comes_when_the_job_has_ended(self, working: Front) -> None:
        answer = await working.post("/v1/jobs", ASK, headers={"Prefer": "wait=3"})
        job = await answer.json()
        assert answer.status == 200
        assert job["status"] == "succeeded"
        assert answer.headers["Preference-Applied"] == "wait=3"
        assert answer.headers["Vary"] == "Prefer"
        assert job["images"][0]["url"].startswith("http://front.test/objects/")

    async def test_a_wait_that_is_over_answers_202(self, front: Front) -> None:
        answer = await front.post("/v1/jobs", ASK, headers={"Prefer": "respond-async, wait=0"})
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "respond-async, wait=0"

    async def test_a_read_can_wait(self, front: Front) -> None:
        created = await (await front.post("/v1/jobs", ASK)).json()
        waiting = asyncio.create_task(front.get(f"/v1/jobs/{created['id']}?wait=3"))
        await asyncio.sleep(0.05)
        job = await front.context.jobs.find(created["id"])
        assert job is not None
        await front.worker.finish(job)
        answer = await asyncio.wait_for(waiting, 2)
        assert (await answer.json())["status"] == "succeeded"

    async def test_a_wait_of_nothing_returns_at_once(self, front: Front) -> None:
        created = await (await front.post("/v1/jobs", ASK)).json()
        answer = await front.get(f"/v1/jobs/{created['id']}?wait=0")
        assert (await answer.json())["status"] == "queued"

    @pytest.mark.parametrize("wait", ["-1", "nan", "inf", "x", "1e99", "", "\u0661"])
    async def test_a_wait_that_is_no_number_is_refused(self, front: Front, wait: str) -> None:
        answer = await front.get("/v1/jobs/job_x", params={"wait": wait})
        assert answer.status in {400, 404}
        created = await (await front.post("/v1/jobs", ASK)).json()
        answer = await front.get(f"/v1/jobs/{created['id']}", params={"wait": wait})
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "wait"


class TestIdempotency:
    async def test_fifty_posts_with_one_key_make_one_job(self, front: Front) -> None:
        headers = {"Idempotency-Key": '"k-1"'}
        answers = await asyncio.gather(
            *(front.post("/v1/jobs", ASK, headers=headers) for _ in range(50))
        )
        ids = {(await answer.json())["id"] for answer in answers}
        assert len(ids) == 1
        assert await front.queued() == 1

    async def test_quoted_and_bare_are_one_key_and_order_is_nothing(self, front: Front) -> None:
        first = await front.post("/v1/jobs", ASK, headers={"Idempotency-Key": '"k"'})
        turned = json.dumps(dict(reversed(ASK.items())))
        second = await front.post(
            "/v1/jobs",
            data=turned,
            headers={"Idempotency-Key": "k", "Content-Type": "application/json"},
        )
        assert (await first.json())["id"] == (await second.json())["id"]

    async def test_another_body_is_refused(self, front: Front) -> None:
        headers = {"Idempotency-Key": "k"}
        await front.post("/v1/jobs", ASK, headers=headers)
        answer = await front.post("/v1/jobs", {**ASK, "n": 2}, headers=headers)
        assert answer.status == 422
        error = (await answer.json())["error"]
        assert error["code"] == "idempotency_key_reused"

    async def test_another_tenant_has_keys_of_its_own(self, front: Front) -> None:
        headers = {"Idempotency-Key": "k"}
        first = await front.post("/v1/jobs", ASK, headers=headers)
        bob = await front.new_key("bob")
        second = await front.post(
            "/v1/jobs", ASK, headers={**headers, "Authorization": f"Bearer {bob}"}
        )
        assert (await first.json())["id"] != (await second.json())["id"]

    async def test_a_repeated_edit_leaves_no_objects_behind(self, front: Front) -> None:
        ask = {**ASK, "images": [data_url(png())]}
        for _ in range(2):
            assert (
                await front.post("/v1/jobs", ask, headers={"Idempotency-Key": "k"})
            ).status == 202
        assert len(await front.kept()) == 1
        other = {**ASK, "images": [data_url(png(value=3))]}
        answer = await front.post("/v1/jobs", other, headers={"Idempotency-Key": "k"})
        assert answer.status == 422
        assert len(await front.kept()) == 1

    @pytest.mark.parametrize("key", ["", '""', "x" * 256, "\u00e9", "a b"])
    async def test_a_bad_key_is_refused(self, front: Front, key: str) -> None:
        answer = await front.post("/v1/jobs", ASK, headers={"Idempotency-Key": key})
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "Idempotency-Key"


class TestListing:
    async def test_pages_go_from_the_newest_to_the_oldest(self, front: Front) -> None:
        ids = [(await (await front.post("/v1/jobs", ASK)).json())["id"] for _ in range(5)]
        seen: list[str] = []
        query = {"limit": "2"}
        for _ in range(4):
            page = await (await front.get("/v1/jobs", params=query)).json()
            seen += [job["id"] for job in page["data"]]
            assert page["object"] == "list"
            assert page["has_more"] is (page["next"] is not None)
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert seen == ids[::-1]

    async def test_filters_hold(self, front: Front) -> None:
        first = await (await front.post("/v1/jobs", ASK)).json()
        await front.post(f"/v1/jobs/{first['id']}/cancel")
        await front.post("/v1/jobs", {**ASK, "images": ["https://example.com/a.png"]})
        for query, count in (
            ({"status": "cancelled"}, 1),
            ({"type": "edit"}, 1),
            ({"model": "sketch"}, 2),
            ({"model": "other"}, 0),
            ({"created_before": "1"}, 0),
            ({"created_after": "1"}, 2),
        ):
            page = await (await front.get("/v1/jobs", params=query)).json()
            assert len(page["data"]) == count, query

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=1e9", "limit"),
            ("status=done", "status"),
            ("type=x", "type"),
            ("cursor=!!", "cursor"),
            ("sort=name", "sort"),
            ("limit=1&limit=2", "limit"),
            ("created_after=yesterday", "created_after"),
        ],
    )
    async def test_a_bad_query_is_refused(self, front: Front, query: str, param: str) -> None:
        answer = await front.get(f"/v1/jobs?{query}")
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == param

    async def test_nobody_sees_the_jobs_of_another(self, front: Front) -> None:
        job = await (await front.post("/v1/jobs", ASK)).json()
        bob = {"Authorization": f"Bearer {await front.new_key('bob')}"}
        assert (await (await front.get("/v1/jobs", headers=bob)).json())["data"] == []
        for method, path in (
            ("GET", f"/v1/jobs/{job['id']}"),
            ("GET", f"/v1/jobs/{job['id']}/images/0"),
            ("POST", f"/v1/jobs/{job['id']}/cancel"),
            ("DELETE", f"/v1/jobs/{job['id']}"),
        ):
            theirs = await front.request(method, path, headers=bob)
            nobodys = await front.request(
                method, path.replace(job["id"], "job_nobody"), headers=bob
            )
            assert theirs.status == nobodys.status == 404
            assert await theirs.read() == await nobodys.read()


class TestEnding:
    async def test_a_cancelled_job_owes_its_webhook(self, front: Front) -> None:
        ask = {**ASK, "webhook_url": "https://example.com/hook"}
        job = await (await front.post("/v1/jobs", ask)).json()
        answer = await front.post(f"/v1/jobs/{job['id']}/cancel")
        assert (await answer.json())["status"] == "cancelled"
        assert await front.queued() == 0
        assert await front.redis.zcard(redis_keys.WEBHOOK_QUEUE) == 1
        again = await front.post(f"/v1/jobs/{job['id']}/cancel")
        assert again.status == 409

    async def test_only_an_ended_job_can_be_deleted(self, front: Front) -> None:
        job = await (await front.post("/v1/jobs", {**ASK, "images": [data_url(png())]})).json()
        refused = await front.request("DELETE", f"/v1/jobs/{job['id']}")
        assert refused.status == 409
        found = await front.context.jobs.find(job["id"])
        assert found is not None
        await front.worker.finish(found)
        assert len(await front.kept()) == 2
        deleted = await front.request("DELETE", f"/v1/jobs/{job['id']}")
        assert (await deleted.json())["deleted"] is True
        assert await front.kept() == []
        assert (await front.get(f"/v1/jobs/{job['id']}")).status == 404

    async def test_a_failed_job_says_why(self, working: Front) -> None:
        working.worker.failure = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
        answer = await working.post("/v1/jobs", ASK, headers={"Prefer": "wait=3"})
        job = await answer.json()
        assert (answer.status, job["status"]) == (200, "failed")
        assert job["error"] == {"code": "content_policy", "message": "No."}


class TestOneImage:
    async def test_it_leads_to_a_fresh_link_that_opens(self, working: Front) -> None:
        answer = await working.post("/v1/jobs", ASK, headers={"Prefer": "wait=3"})
        job = await answer.json()
        moved = await working.get(f"/v1/jobs/{job['id']}/images/0")
        assert moved.status == 302
        target = moved.headers["Location"].removeprefix("http://front.test")
        opened = await working.client.get(target)
        assert opened.status == 200
        assert await opened.read() == png()
        assert opened.headers["Content-Type"] == "image/png"
        assert opened.headers["Content-Disposition"].startswith("attachment")
        assert opened.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert (await working.client.get(target.replace("png&", "jpeg&"))).status == 403

    async def test_the_bytes_come_whole_or_in_part(self, working: Front) -> None:
        answer = await working.post("/v1/jobs", ASK, headers={"Prefer": "wait=3"})
        path = f"/v1/jobs/{(await answer.json())['id']}/images/0?proxy=1"
        whole = await working.get(path)
        data = await whole.read()
        assert data == png()
        tag = whole.headers["ETag"]
        same = await working.get(path, headers={"If-None-Match": tag})
        assert (same.status, await same.read()) == (304, b"")
        for asked, part in (
            ("bytes=0-9", data[:10]),
            ("bytes=10-", data[10:]),
            ("bytes=-5", data[-5:]),
            ("bytes=5-999999", data[5:]),
        ):
            some = await working.get(path, headers={"Range": asked})
            assert some.status == 206, asked
            assert await some.read() == part
        beyond = await working.get(path, headers={"Range": "bytes=999999-"})
        assert beyond.status == 416
        for odd in ("bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes=-", "bytes=5-2"):
            assert (await working.get(path, headers={"Range": odd})).status in {200, 416}
        head = await working.request("HEAD", path)
        assert int(head.headers["Content-Length"]) == len(data)

    @pytest.mark.parametrize("index", ["1", "-1", "00", "x", "0%2F..", "\u0660"])
    async def test_there_is_no_other(self, working: Front, index: str) -> None:
        answer = await working.post("/v1/jobs", ASK, headers={"Prefer": "wait=3"})
        gone = await working.get(f"/v1/jobs/{(await answer.json())['id']}/images/{index}")
        assert gone.status == 404


class TestTheSecret:
    async def test_it_stays_the_same_and_is_the_tenants_own(self, front: Front) -> None:
        first = await (await front.get("/v1/webhook-secret")).json()
        again = await (await front.get("/v1/webhook-secret")).json()
        bob = {"Authorization": f"Bearer {await front.new_key('bob')}"}
        other = await (await front.get("/v1/webhook-secret", headers=bob)).json()
        assert first == again
        assert first["secret"].startswith("whsec_")
        assert other != first
