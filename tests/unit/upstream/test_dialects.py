"""How strict the fakes of nine dialects are where our own providers never put them to the test."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from PIL import Image

from tests.unit.worker.providers.graphs import GENERATE
from tests.upstream import pictures, server
from tests.upstream.dialects import DIALECTS, load
from tests.upstream.server import Upstream
from worker.workflow import filled


KEYS = {
    "bfl": {"x-key": "key-1"},
    "fal": {"Authorization": "Key key:1"},
    "automatic1111": {"Authorization": f"Basic {base64.b64encode(b'ann:1').decode()}"},
}
BEARER = {"Authorization": "Bearer key-1"}
ASYNC = "/zai/api/paas/v4/async"
PNG = pictures.draw(pictures.Sitting(model="m", prompt="p", width=32, height=32))
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


class Client:
    """Speaks to any dialect with a good key."""

    def __init__(self, upstream: Upstream, session: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Return status and JSON; a form is sent as a form, anything else as JSON."""
        headers = {**KEYS.get(path.split("/")[1], BEARER), **more.get("headers", {})}
        content = {"data": body} if isinstance(body, aiohttp.FormData) else {"json": body}
        async with self.session.request(
            method, self.upstream.url(path), headers=headers, **content
        ) as response:
            text = await response.read()
            return response.status, orjson.loads(text) if text else None


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with server.running() as upstream, aiohttp.ClientSession() as session:
        yield Client(upstream, session)


def form(**fields: str) -> aiohttp.FormData:
    """Return a form that is multipart even without a file."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        made.add_field(name, value)
    return made


def test_every_dialect_is_mounted_under_its_name() -> None:
    for name in DIALECTS:
        assert load(name).__name__.lower() == name.replace("_", "")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/xai/v1/images/generations", {"size": "1024x1024"}, 400, "not supported: size"),
        ("/xai/v1/images/generations", {"quality": "high"}, 400, "quality=high"),
        ("/xai/v1/images/generations", {"quality": "best"}, 422, "deserialize"),
        ("/xai/v1/images/generations", {"aspect_ratio": "5:1"}, 422, "deserialize"),
        ("/xai/v1/images/edits", {}, 400, "Exactly one"),
        ("/xai/v1/images/edits", {"images": [{"url": DATA}] * 4}, 400, "At most 3"),
    ],
)
async def test_xai_refuses(
    client: Client, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    described = {"model": "grok-imagine-image-2.0", "prompt": "x", **body}
    got, answer = await client.ask("POST", path, described)
    assert got == status
    assert words in answer["error"]


async def test_xai_takes_no_forms(client: Client) -> None:
    status, _ = await client.ask("POST", "/xai/v1/images/edits", form(prompt="x"))
    assert status == 415


async def test_stability_takes_nothing_but_forms(client: Client) -> None:
    path = "/stability/v2beta/stable-image/generate/core"
    status, answer = await client.ask("POST", path, {"prompt": "x"})
    assert (status, answer["name"]) == (400, "bad_request")
    accept = {"Accept": "application/json"}
    status, answer = await client.ask("POST", path, form(prompt="x", none=""), headers=accept)
    assert (status, answer["finish_reason"]) == (200, "SUCCESS")


async def test_stability_gives_bytes_if_asked(client: Client) -> None:
    url = client.upstream.url("/stability/v2beta/stable-image/generate/core")
    headers = {**BEARER, "Accept": "image/*"}
    async with client.session.post(url, data=form(prompt="x"), headers=headers) as response:
        assert response.headers["finish-reason"] == "SUCCESS"
        assert Image.open(io.BytesIO(await response.read())).size == (1024, 1024)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"width": 1000}, "width"),
        ({"width": 4096, "height": 4096}, "width"),
        ({"n": 2}, "n"),
        ({"input_image": "not a picture"}, "input_image"),
        ({"output_format": "gif"}, "output_format"),
    ],
)
async def test_bfl_refuses(client: Client, body: dict[str, Any], field: str) -> None:
    status, answer = await client.ask("POST", "/bfl/v1/flux-2-pro", {"prompt": "x", **body})
    assert status == 422
    assert answer["detail"][0]["loc"] == ["body", field]


async def test_bfl_does_not_know_a_task_of_nobody(client: Client) -> None:
    status, answer = await client.ask("GET", "/bfl/v1/get_result?id=none")
    assert (status, answer["status"]) == (200, "Task not found")


async def test_zai_does_not_run_the_same_request_twice(client: Client) -> None:
    body = {"model": "glm-image", "prompt": "[[polls:9]]", "request_id": "job_1-1"}
    first, _ = await client.ask("POST", f"{ASYNC}/images/generations", body)
    status, answer = await client.ask("POST", f"{ASYNC}/images/generations", body)
    assert (first, status, answer["error"]["code"]) == (200, 400, "1231")


@pytest.mark.parametrize(
    ("model", "size", "good"),
    [
        ("glm-image", "1024x1024", True),
        ("glm-image", "960x1728", True),
        ("glm-image", "512x512", False),
        ("glm-image", "1040x1024", False),
        ("cogview-4-250304", "1040x1024", True),
        ("cogview-4-250304", "2048x2048", False),
    ],
)
async def test_zai_knows_the_sizes_of_its_models(
    client: Client, model: str, size: str, *, good: bool
) -> None:
    body = {"model": model, "prompt": "x", "size": size}
    status, _ = await client.ask("POST", "/zai/api/paas/v4/images/generations", body)
    assert status == (200 if good else 400)


async def test_zai_makes_tasks_of_one_model_only(client: Client) -> None:
    body = {"model": "cogview-4-250304", "prompt": "x"}
    status, answer = await client.ask("POST", f"{ASYNC}/images/generations", body)
    assert (status, answer["error"]["code"]) == (400, "1212")


async def test_replicate_takes_small_data_urls_only(client: Client) -> None:
    heavy = base64.b64encode(pictures.heavy(400_000)).decode()
    body = {"input": {"prompt": "x", "input_images": [f"data:image/png;base64,{heavy}"]}}
    path = "/replicate/v1/models/black-forest-labs/flux-2-pro/predictions"
    status, answer = await client.ask("POST", path, body)
    assert status == 422
    assert "input_images" in answer["detail"]


async def test_replicate_walks_and_cancels(client: Client) -> None:
    path = "/replicate/v1/models/black-forest-labs/flux-schnell/predictions"
    _, made = await client.ask("POST", path, {"input": {"prompt": "[[polls:2]]"}})
    task = f"/replicate/v1/predictions/{made['id']}"
    walk = [made["status"]] + [(await client.ask("GET", task))[1]["status"] for _ in range(3)]
    assert walk == ["starting", "starting", "processing", "succeeded"]
    _, other = await client.ask("POST", path, {"input": {"prompt": "x"}})
    task = f"/replicate/v1/predictions/{other['id']}"
    await client.ask("POST", f"{task}/cancel")
    assert (await client.ask("GET", task))[1]["status"] == "canceled"


async def test_fal_keeps_a_result_until_its_task_is_done_and_cancels_before(client: Client) -> None:
    _, made = await client.ask("POST", "/fal/fal-ai/flux/dev", {"prompt": "[[polls:1]]"})
    task = f"/fal/fal-ai/flux/requests/{made['request_id']}"
    assert (await client.ask("GET", task))[0] == 400
    assert (await client.ask("GET", f"{task}/status"))[0] == 202
    assert (await client.ask("GET", f"{task}/status"))[1]["status"] == "COMPLETED"
    assert (await client.ask("GET", task))[0] == 200
    assert (await client.ask("PUT", f"{task}/cancel"))[0] == 400
    _, other = await client.ask("POST", "/fal/fal-ai/flux/dev", {"prompt": "x"})
    task = f"/fal/fal-ai/flux/requests/{other['request_id']}"
    assert (await client.ask("PUT", f"{task}/cancel"))[0] == 202


async def test_a_relay_takes_content_in_parts_only(client: Client) -> None:
    body = {"model": "gpt-4o-image", "messages": [{"role": "user", "content": "x"}]}
    status, answer = await client.ask("POST", "/chat_relay/v1/chat/completions", body)
    assert status == 400
    assert "images[0]" in answer["error"]["message"]


async def test_automatic1111_refuses_fields_it_does_not_know(client: Client) -> None:
    status, answer = await client.ask("POST", "/automatic1111/sdapi/v1/txt2img", {"size": "1x1"})
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", "size"])
    status, answer = await client.ask("POST", "/automatic1111/sdapi/v1/img2img", {"prompt": "x"})
    assert (status, answer["detail"]) == (404, "Init image not found")


@pytest.mark.parametrize(
    "node",
    [
        {"class_type": "Unheard", "inputs": {}},
        {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
        {"class_type": "VAEDecode", "inputs": {"samples": ["77", 0], "vae": ["4", 2]}},
        {"class_type": "LoadImage", "inputs": {"image": "never uploaded.png"}},
        {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 1001, "height": 512, "batch_size": 1},
        },
    ],
)
async def test_comfyui_refuses_a_graph_that_cannot_run(
    client: Client, node: dict[str, Any]
) -> None:
    places = {"width": 512, "height": 512, "n": 1, "seed": 1, "model": "m"}
    graph = filled(GENERATE, {**places, "prompt": "x", "negative_prompt": "y"})
    assert (await client.ask("POST", "/comfyui/prompt", {"prompt": graph}))[0] == 200
    status, answer = await client.ask("POST", "/comfyui/prompt", {"prompt": {**graph, "99": node}})
    assert status == 400
    assert answer["error"]["type"]


@pytest.mark.parametrize("dialect", ["bfl", "fal", "replicate", "zai"])
async def test_without_a_key_there_is_nothing(client: Client, dialect: str) -> None:
    paths = {
        "bfl": "/bfl/v1/flux-2-pro",
        "fal": "/fal/fal-ai/flux/dev",
        "replicate": "/replicate/v1/predictions",
        "zai": "/zai/api/paas/v4/images/generations",
    }
    url = client.upstream.url(paths[dialect])
    async with client.session.post(url, json={"prompt": "x"}) as response:
        assert response.status in {401, 403}


async def test_a_task_is_billed_once_however_often_it_is_asked_for(client: Client) -> None:
    _, made = await client.ask("POST", "/bfl/v1/flux-2-max", {"prompt": "x"})
    for _ in range(5):
        await client.ask("GET", f"/bfl/v1/get_result?id={made['id']}")
    assert client.upstream.ledger.bill()["total"] == pytest.approx(0.07)
    assert made["cost"] == pytest.approx(7.0)


async def test_what_fails_or_is_withheld_is_not_billed(client: Client) -> None:
    for token in ("fail", "refuse:input", "refuse:output", "lost"):
        await client.ask("POST", "/bfl/v1/flux-2-max", {"prompt": f"[[{token}]]"})
    assert client.upstream.ledger.bill()["total"] == 0.0
