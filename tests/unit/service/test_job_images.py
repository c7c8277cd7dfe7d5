"""One image of a job: its renditions and the links that lead to it."""

from typing import Any

import pytest

from storage import queue, redis_keys
from storage.document import links_of
from storage.job import Job
from storage.rendition import Rendition, RenditionStatus
from storage.tenant import Scope
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


ASK = {"prompt": "a lighthouse at dusk"}
THUMBNAIL = {"name": "thumbnail", "status": "pending"}


async def ended(front: Front, **fields: Any) -> str:
    """Return the path of an image that is there."""
    answer = await front.post("/v1/jobs", {**ASK, **fields}, headers={"Prefer": "wait=3"})
    document = await answer.json()
    assert document["status"] == "succeeded", document
    return f"/v1/jobs/{document['id']}/images/0"


async def record(front: Front, path: str) -> Job:
    job = await front.context.jobs.find(path.split("/")[3])
    assert job is not None
    return job


async def with_rendition(front: Front, path: str) -> bytes:
    """Put a rendition beside the image, as a worker does."""
    job = await record(front, path)
    key, data = f"t/{job.tenant}/{job.id}/1/0.web.png", png(32, 32)
    await front.context.objects.put(key, data, content_type="image/png")
    made = Rendition(
        name="web",
        status=RenditionStatus.SUCCEEDED,
        key=key,
        content_type="image/png",
        width=32,
        height=32,
        bytes=len(data),
        sha256="e" * 64,
    )
    image = job.images[0].with_renditions([made], job.images[0])
    assert await front.context.jobs.swap(job, job.with_image(image)) is not None
    return data


class TestAsking:
    async def test_what_is_asked_with_the_job_is_on_record(self, working: Front) -> None:
        own = {"name": "small", "width": 64, "format": "jpeg", "quality": 60}
        path = await ended(working, renditions=["thumbnail", own], provenance=False)
        request = (await record(working, path)).request
        assert [(one.name, one.width, one.format) for one in request.renditions] == [
            ("thumbnail", 256, "webp"),
            ("small", 64, "jpeg"),
        ]
        assert request.provenance is False
        shown = await (await working.get(path.removesuffix("/images/0"))).json()
        assert shown["request"]["renditions"][1] == own

    @pytest.mark.parametrize(
        "renditions",
        [
            ["poster"],
            [{"name": "a", "width": 5000}],
            [{"name": "a", "width": 1}],
            [{"name": "../a"}],
            [{"name": "original"}],
            [{"name": "a", "format": "gif"}],
            [{"name": "a"}, {"name": "a"}],
            [{"name": "a", "height": 5}],
            [{"name": f"a{n}"} for n in range(9)],
            "thumbnail",
        ],
    )
    async def test_what_no_rendition_can_be_is_refused(
        self, front: Front, renditions: object
    ) -> None:
        answer = await front.post("/v1/jobs", {**ASK, "renditions": renditions})
        assert answer.status == 400
        assert (await answer.json())["error"]["param"].startswith("renditions")

    async def test_openais_door_takes_them_too(self, working: Front) -> None:
        answer = await working.post(
            "/v1/images/generations", {**ASK, "renditions": ["web"], "provenance": False}
        )
        job = await working.context.jobs.find(answer.headers["X-Job-Id"])
        assert job is not None
        assert [one.name for one in job.request.renditions] == ["web"]


class TestLater:
    async def test_it_is_put_on_record_and_queued(self, working: Front) -> None:
        path = await ended(working)
        answer = await working.post(f"{path}/renditions", {"renditions": ["thumbnail"]})
        assert (answer.status, answer.headers["Retry-After"]) == (202, "1")
        assert (await answer.json())["data"] == [THUMBNAIL]
        job = await record(working, path)
        assert [recipe.name for recipe in job.images[0].wanted] == ["thumbnail"]
        task = queue.render_task(job.id)
        assert await queue.holds(working.context.commands, redis_keys.IMAGE_QUEUE, task)
        shown = await (await working.get(path.removesuffix("/images/0"))).json()
        assert shown["images"][0]["renditions"] == [THUMBNAIL]

    async def test_what_is_there_is_not_made_again(self, working: Front) -> None:
        path = await ended(working)
        await with_rendition(working, path)
        job = await record(working, path)
        assert job.images[0].wanted == ()
        listed = await (await working.get(f"{path}/renditions")).json()
        (web,) = listed["data"]
        assert (web["name"], web["width"], web["sha256"]) == ("web", 32, "e" * 64)
        assert web["url"].startswith("http://front.test/objects/")

    async def test_a_name_stands_for_one_recipe(self, working: Front) -> None:
        path = await ended(working)
        await working.post(f"{path}/renditions", {"renditions": [{"name": "a", "width": 20}]})
        other = {"renditions": [{"name": "a", "width": 30}]}
        answer = await working.post(f"{path}/renditions", other)
        assert answer.status == 409

    async def test_there_are_so_many_and_no_more(self, working: Front) -> None:
        path = await ended(working)
        statuses = [
            (
                await working.post(
                    f"{path}/renditions",
                    {"renditions": [{"name": f"r{start + n}"} for n in range(8)]},
                )
            ).status
            for start in (0, 8, 16)
        ]
        assert statuses == [202, 202, 400]

    async def test_a_running_job_is_left_to_its_worker(self, front: Front) -> None:
        job_id = (await (await front.post("/v1/jobs", ASK)).json())["id"]
        path = f"/v1/jobs/{job_id}/images/0/renditions"
        answer = await front.post(path, {"renditions": ["web"]})
        assert answer.status == 404


class TestLinks:
    async def test_a_rendition_is_led_to_and_sent(self, working: Front) -> None:
        path = await ended(working)
        data = await with_rendition(working, path)
        led = await working.get(f"{path}/renditions/web")
        assert led.status == 302
        assert led.headers["Cache-Control"] == "no-store"
        address = led.headers["Location"].removeprefix("http://front.test")
        assert await (await working.client.get(address)).read() == data
        sent = await working.get(f"{path}/renditions/web?proxy=1")
        assert (await sent.read(), sent.headers["ETag"]) == (data, f'"{"e" * 64}"')
        assert (await working.get(f"{path}/renditions/thumbnail")).status == 404

    async def test_a_part_of_another_version_is_sent_whole(self, working: Front) -> None:
        path = await ended(working)
        whole = await working.get(f"{path}?proxy=1")
        tag, data = whole.headers["ETag"], await whole.read()
        for given, status in ((tag, 206), ('"another"', 200)):
            headers = {"Range": "bytes=0-3", "If-Range": given}
            some = await working.get(f"{path}?proxy=1", headers=headers)
            assert some.status == status
            assert await some.read() == (data[:4] if status == 206 else data)

    async def test_a_link_lives_as_long_as_is_asked(self, working: Front) -> None:
        path = await ended(working)
        answer = await working.post(f"{path}/sign", {"expires_in": 86_400})
        link = await answer.json()
        assert 86_390 < link["expires_at"] - working.context.clock() <= 86_400
        address = link["url"].removeprefix("http://front.test")
        assert (await working.client.get(address)).status == 200
        for wrong in (0, -1, 86_401, "900"):
            refused = await working.post(f"{path}/sign", {"expires_in": wrong})
            assert refused.status == 400, wrong

    async def test_the_links_of_a_job_lead_to_its_renditions(self, working: Front) -> None:
        path = await ended(working)
        await with_rendition(working, path)
        job = await record(working, path)
        links = links_of(job, working.context.objects, working.context.clock())
        assert set(links) == {0, (0, "web")}


class TestSharing:
    async def test_a_share_link_needs_no_key(self, working: Front) -> None:
        path = await ended(working)
        answer = await working.post(f"{path}/share")
        share = await answer.json()
        assert answer.status == 201
        assert share["url"] == f"http://front.test/s/{share['token']}"
        led = await working.client.get(f"/s/{share['token']}", allow_redirects=False)
        assert led.status == 302
        sent = await working.client.get(f"/s/{share['token']}?proxy=1")
        assert await sent.read() == png()
        assert "alice" not in share["token"]

    async def test_asking_again_gives_the_same_link(self, working: Front) -> None:
        path = await ended(working)
        tokens = [(await (await working.post(f"{path}/share")).json())["token"] for _ in "ab"]
        assert tokens[0] == tokens[1]

    async def test_a_link_that_was_taken_back_leads_nowhere_for_good(self, working: Front) -> None:
        path = await ended(working)
        old = (await (await working.post(f"{path}/share")).json())["token"]
        assert (await working.request("DELETE", f"{path}/share")).status == 200
        assert (await working.client.get(f"/s/{old}")).status == 404
        new = (await (await working.post(f"{path}/share")).json())["token"]
        assert new != old
        assert (await working.client.get(f"/s/{old}")).status == 404

    async def test_a_token_that_was_never_given_leads_nowhere(self, working: Front) -> None:
        path = await ended(working)
        hexes = path.split("/")[3].removeprefix("job_")
        await working.post(f"{path}/share")
        for token in (f"{hexes}-0-{'0' * 32}", f"{hexes}-1-{'0' * 32}", "x", f"{hexes}-0-"):
            answer = await working.client.get(f"/s/{token}")
            assert answer.status == 404, token

    async def test_a_share_link_ends_with_its_job(self, working: Front) -> None:
        path = await ended(working)
        token = (await (await working.post(f"{path}/share")).json())["token"]
        await working.request("DELETE", path.removesuffix("/images/0"))
        assert (await working.client.get(f"/s/{token}")).status == 404

    async def test_the_secret_is_not_shown_with_the_job(self, working: Front) -> None:
        path = await ended(working)
        token = (await (await working.post(f"{path}/share")).json())["token"]
        shown = await (await working.get(path.removesuffix("/images/0"))).text()
        assert token[-32:] not in shown

    async def test_only_the_owner_may_share(self, working: Front) -> None:
        path = await ended(working)
        stranger = await working.new_key("bob")
        headers = {"Authorization": f"Bearer {stranger}"}
        assert (await working.post(f"{path}/share", headers=headers)).status == 404
        reader = await working.new_key("alice", Scope.READ)
        headers = {"Authorization": f"Bearer {reader}"}
        assert (await working.post(f"{path}/share", headers=headers)).status == 403
