"""Tenants are strangers: what belongs to another answers as what never was, on every route.

The routes come from the route table. Whoever adds an address that names a thing of a tenant adds
here how such a thing is made, or the first test fails.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import ClientResponse

from service.routes import ROUTES, Route
from storage.replays import new_replay_id
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


PUBLIC = ("/v1/models/", "/v1/admin/")  # named by the catalog, and by operators
OWNED = [route for route in ROUTES if "{" in route.path and not route.path.startswith(PUBLIC)]


class Bob:
    """Another tenant, who has one of everything."""

    def __init__(self, front: Front, key: str) -> None:
        self._front = front
        self.headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._front.client.request(method, path, headers=self.headers, **options)
        assert answer.status < 300, await answer.text()
        return await answer.json()

    async def job(self) -> str:
        made = await self.ask("POST", "/v1/jobs", json={"prompt": "a windmill"})
        job = await self._front.context.jobs.find(made["id"])
        assert job is not None
        await self._front.worker.finish(job)
        return str(made["id"])

    async def response(self) -> str:
        return (await self.job()).replace("job_", "resp_")

    async def file(self) -> str:
        form = aiohttp.FormData({"purpose": "vision"})
        form.add_field("file", png(8, 8), filename="a.png", content_type="image/png")
        return str((await self.ask("POST", "/v1/files", data=form))["id"])

    async def batch(self) -> str:
        line = {"custom_id": "a", "url": "/v1/images/generations", "body": {"prompt": "a fox"}}
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", orjson.dumps(line), filename="in.jsonl", content_type="text/plain")
        file_id = (await self.ask("POST", "/v1/files", data=form))["id"]
        asked = {"input_file_id": file_id, "endpoint": "/v1/images/generations"}
        return str((await self.ask("POST", "/v1/batches", json=asked))["id"])

    async def endpoint(self) -> str:
        asked = {"url": "https://receiver.example/hook"}
        return str((await self.ask("POST", "/v1/webhook-endpoints", json=asked))["id"])

    async def delivery(self) -> str:
        endpoint = await self.endpoint()
        sent = await self.ask("POST", f"/v1/webhook-endpoints/{endpoint}/test", json={})
        return str(sent["id"])

    async def replay(self) -> str:
        await self.delivery()
        return str((await self.ask("POST", "/v1/deliveries/replay", json={}))["id"])


MAKERS: dict[str, Callable[[Bob], Awaitable[str]]] = {
    "/v1/jobs/": Bob.job,
    "/v1/responses/": Bob.response,
    "/v1/files/": Bob.file,
    "/v1/batches/": Bob.batch,
    "/v1/webhook-endpoints/": Bob.endpoint,
    "/v1/deliveries/replays/": Bob.replay,
    "/v1/deliveries/": Bob.delivery,
}


@pytest.fixture
async def bob(front: Front) -> Bob:
    return Bob(front, await front.new_key("bob"))


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


async def asked(front: Front, headers: dict[str, str], route: Route, thing: str) -> ClientResponse:
    """Send a route a good request for the thing."""
    path = route.path.replace("{id}", thing).replace("{index}", "0")
    path = re.sub(r"\{[^}]*\}", "thumb", path)
    headers = {**headers, "X-Request-Id": "the-same"}
    options: dict[str, Any] = {"headers": headers, "allow_redirects": False}
    if route.json is not None:
        schema: Any = route.json.model_json_schema()
        options["json"] = schema.get("examples", [{}])[0]
    return await front.client.request(route.method, path, **options)


async def all_of(answer: ClientResponse) -> tuple[int, dict[str, str], bytes]:
    """Return everything that a client can tell two answers to one request apart by."""
    headers = {name: value for name, value in answer.headers.items() if name != "Date"}
    return answer.status, headers, await answer.read()


def unknown(thing: str) -> str:
    """Return an id of the same form that nobody has."""
    prefix, _, rest = thing.rpartition("_")
    return f"{prefix}_{re.sub('[0-9a-zA-Z]', '0', rest)}"


@pytest.mark.parametrize("route", OWNED, ids=named)
async def test_anothers_thing_answers_as_one_that_never_was(
    front: Front, bob: Bob, route: Route
) -> None:
    make = next(maker for prefix, maker in MAKERS.items() if route.path.startswith(prefix))
    theirs = await make(bob)
    anothers = await all_of(await asked(front, front.headers, route, theirs))
    nobodys = await all_of(await asked(front, front.headers, route, unknown(theirs)))
    assert anothers == nobodys
    assert anothers[0] == 404
    owners = await asked(front, bob.headers, route, theirs)
    missing = "{name}" in route.path  # no rendition was made
    assert owners.status != 404 or missing, await owners.text()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs",
        "/v1/files",
        "/v1/batches",
        "/v1/deliveries",
        "/v1/webhook-endpoints",
        "/v1/usage",
    ],
)
async def test_no_list_shows_what_is_anothers(front: Front, bob: Bob, path: str) -> None:
    before = await (await front.get(path)).read()
    things = [await make(bob) for make in MAKERS.values()]
    answer = await front.get(path)
    assert answer.status == 200
    assert await answer.read() == before
    shown = await front.client.get(path, headers=bob.headers)
    text = await shown.text()
    assert path == "/v1/usage" or any(thing in text for thing in things)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/deliveries"])
async def test_a_cursor_of_another_leads_to_nothing_of_theirs(
    front: Front, bob: Bob, path: str
) -> None:
    for _ in range(3):
        await bob.delivery()
        await bob.job()
    page = await bob.ask("GET", f"{path}?limit=1")
    assert page["next"] is not None
    answer = await front.get(f"{path}?cursor={page['next']}")
    if answer.status == 200:
        assert (await answer.json())["data"] == []
    else:
        assert answer.status == 400


async def test_filters_do_not_find_what_is_anothers(front: Front, bob: Bob) -> None:
    job, endpoint = await bob.job(), await bob.endpoint()
    await bob.delivery()
    for query in (f"job={job}", f"endpoint={endpoint}"):
        answer = await front.get(f"/v1/deliveries?{query}")
        if answer.status == 200:
            assert (await answer.json())["data"] == []
        else:
            unknown_one = await front.get(f"/v1/deliveries?{query[:-4]}0000")
            assert answer.status == unknown_one.status


async def test_a_replay_sends_nothing_of_anothers(front: Front, bob: Bob) -> None:
    endpoint = await bob.endpoint()
    await bob.delivery()
    answer = await front.post("/v1/deliveries/replay", {"endpoint": endpoint})
    nobodys = await front.post("/v1/deliveries/replay", {"endpoint": unknown(endpoint)})
    assert (answer.status, await answer.read()) == (nobodys.status, await nobodys.read())


async def test_one_idempotency_key_of_two_tenants_makes_two_jobs(front: Front, bob: Bob) -> None:
    keyed = {"Idempotency-Key": "order-7"}
    mine = await front.post("/v1/jobs", {"prompt": "x"}, headers=keyed)
    theirs = await front.client.post(
        "/v1/jobs", json={"prompt": "another"}, headers={**bob.headers, **keyed}
    )
    assert (mine.status, theirs.status) == (202, 202)
    assert (await mine.json())["id"] != (await theirs.json())["id"]


async def test_the_pictures_of_another_cannot_be_named(front: Front, bob: Bob) -> None:
    """A file, an image of a job or an earlier response, by whatever door it is named."""
    file_id, job_id = await bob.file(), await bob.job()
    image = f"{job_id}/0"
    for mine, nobodys in ((file_id, unknown(file_id)), (image, unknown(job_id) + "/0")):
        bodies = [
            {"prompt": "x", "images": [{"file_id": thing}], "model": "gpt-image-2"}
            for thing in (mine, nobodys)
        ]
        for door in ("/v1/jobs", "/v1/images/edits"):
            answers = [await front.post(door, body) for body in bodies]
            told = [(answer.status, await answer.read()) for answer in answers]
            assert told[0] == told[1]
            assert told[0][0] in {400, 404}
    earlier = [
        await front.post(
            "/v1/responses",
            {"input": "again", "previous_response_id": thing, "model": "gpt-image-2"},
        )
        for thing in (job_id.replace("job_", "resp_"), "resp_" + "0" * 32)
    ]
    told = [(answer.status, await answer.read()) for answer in earlier]
    assert told[0] == told[1]
    assert told[0][0] in {400, 404}
    assert await front.queued() == 0


async def test_a_batch_cannot_be_made_of_anothers_file(front: Front, bob: Bob) -> None:
    file_id = await bob.file()
    told = []
    for thing in (file_id, unknown(file_id)):
        answer = await front.post(
            "/v1/batches", {"input_file_id": thing, "endpoint": "/v1/images/generations"}
        )
        told.append((answer.status, await answer.read()))
    assert told[0] == told[1]
    assert told[0][0] == 404


@pytest.mark.parametrize(
    "field", ["tenant", "status", "cost", "created_at", "result_url", "id", "reserved", "weight"]
)
async def test_what_the_service_decides_cannot_be_said(front: Front, field: str) -> None:
    answer = await front.post("/v1/jobs", {"prompt": "x", field: "bob"})
    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == field
    assert await front.queued() == 0


def test_a_replay_id_cannot_be_guessed() -> None:
    ids = {new_replay_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one.rpartition("_")[2]) >= 22 for one in ids)
