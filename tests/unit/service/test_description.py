"""The description of the API: whole, valid, and true of what is sent."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from pydantic import BaseModel

from service.openapi import VERSION
from service.routes import ROUTES
from service.wire import replies, webhook_replies
from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


ROOT = Path(__file__).parents[3]


@pytest.fixture
async def description(front: Front) -> dict[str, Any]:
    document: dict[str, Any] = await (await front.client.get("/openapi.json")).json()
    return document


class TestTheDocument:
    async def test_it_needs_no_key_and_is_openapi_3_1(self, description: dict[str, Any]) -> None:
        assert description["openapi"].startswith("3.1")
        assert description["info"]["version"] == VERSION

    def test_its_version_is_the_projects(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        assert project["project"]["version"] == VERSION

    async def test_every_address_is_in_it(self, front: Front, description: dict[str, Any]) -> None:
        served = {
            (route.method, route.resource.canonical)
            for route in front.client.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
        described = {
            (method.upper(), path)
            for path, methods in description["paths"].items()
            for method in methods
        }
        pages = {path for _, path in served if path.startswith(("/docs", "/openapi.json"))}
        assert {entry for entry in served if entry[1] not in pages} == described

    async def test_every_reference_leads_somewhere(self, description: dict[str, Any]) -> None:
        text = json.dumps(description)
        for name in text.split('"#/components/schemas/')[1:]:
            assert name.partition('"')[0] in description["components"]["schemas"]

    async def test_every_submitting_door_has_an_example(self, description: dict[str, Any]) -> None:
        for route in ROUTES:
            if route.json is not None:
                schema = description["components"]["schemas"][route.json.__name__]
                assert schema["examples"], route.path
                route.json.model_validate(schema["examples"][0])

    async def test_webhooks_are_described(self, description: dict[str, Any]) -> None:
        assert "job.succeeded" in description["webhooks"]

    async def test_it_tells_no_secrets(self, front: Front, description: dict[str, Any]) -> None:
        text = json.dumps(description)
        assert front.context.settings.secret.get_secret_value() not in text
        assert "OPENAI_API_KEY" not in text


class TestThePage:
    async def test_it_needs_no_other_host(self, front: Front) -> None:
        page = await front.client.get("/docs")
        text = await page.text()
        assert "//" not in text.replace("<!doctype", "")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]

    @pytest.mark.parametrize("name", ["swagger-ui.js", "swagger-ui.css", "start.js"])
    async def test_its_parts_are_served_from_here(self, front: Front, name: str) -> None:
        answer = await front.client.get(f"/docs/{name}")
        assert answer.status == 200
        assert len(await answer.read()) > 100


class TestReplies:
    """Every reply is what the description says; the models forbid what they do not know."""

    async def read(self, answer: Any, model: type[BaseModel], status: int = 200) -> None:
        body = await answer.read()
        assert answer.status == status, body[:300]
        model.model_validate_json(body)

    async def test_jobs(self, working: Front) -> None:
        working.worker.failed = frozenset({1})
        working.worker.usage = Usage(input_tokens=1, output_tokens=2, images=1)
        ask = {
            "prompt": "x",
            "n": 2,
            "model": "sketch",
            "webhook_url": "https://example.com/",
            "metadata": {"a": "b"},
        }
        await self.read(await working.post("/v1/jobs", ask), replies.JobReply, 202)
        made = await working.post("/v1/jobs", ask, headers={"Prefer": "wait=3"})
        await self.read(made, replies.JobReply)
        job = await made.json()
        await self.read(await working.get(f"/v1/jobs/{job['id']}"), replies.JobReply)
        await self.read(await working.get("/v1/jobs"), replies.JobListReply)
        deleted = await working.request("DELETE", f"/v1/jobs/{job['id']}")
        await self.read(deleted, replies.DeletedReply)

    async def test_a_failed_job(self, working: Front) -> None:
        working.worker.failure = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
        made = await working.post("/v1/jobs", {"prompt": "x"}, headers={"Prefer": "wait=3"})
        await self.read(made, replies.JobReply)

    async def test_a_cancelled_job(self, front: Front) -> None:
        job = await (await front.post("/v1/jobs", {"prompt": "x"})).json()
        await self.read(await front.post(f"/v1/jobs/{job['id']}/cancel"), replies.JobReply)

    @pytest.mark.parametrize("form", ["url", "b64_json"])
    async def test_images(self, working: Front, form: str) -> None:
        working.worker.usage = Usage(input_tokens=1, output_tokens=2)
        ask = {"prompt": "x", "response_format": form, "quality": "hd", "model": "sketch"}
        await self.read(await working.post("/v1/images/generations", ask), replies.ImagesReply)
        await self.read(await working.post("/api/images/generations", ask), replies.ImagesReply)
        data = FormData({"prompt": "x"})
        data.add_field("image", png(), filename="a")
        await self.read(await working.post("/v1/images/edits", data=data), replies.ImagesReply)

    async def test_the_rest(self, working: Front) -> None:
        await self.read(await working.get("/v1/models"), replies.ModelListReply)
        await self.read(await working.get("/v1/models/sketch"), replies.ModelReply)
        await self.read(await working.get("/v1/webhook-secret"), webhook_replies.SecretReply)
        await self.read(await working.get("/v1/usage"), replies.SpendReply)
        await self.read(await working.post("/v1/quotes", {"prompt": "x"}), replies.QuoteReply)
        chat = {"messages": [{"role": "user", "content": "x"}], "model": "sketch"}
        await self.read(await working.post("/v1/chat/completions", chat), replies.ChatReply)
        await self.read(await working.post("/v1/responses", {"input": "x"}), replies.ResponseReply)

    @pytest.mark.parametrize("path", ["/v1/jobs/none", "/nowhere", "/v1/responses/none"])
    async def test_errors(self, front: Front, path: str) -> None:
        await self.read(await front.get(path), replies.ErrorReply, 404)
