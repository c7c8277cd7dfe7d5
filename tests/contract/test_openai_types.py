"""What OpenAI's doors answer, read with the types of its own package, required fields and all."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from openai.types import (
    Batch,
    FileDeleted,
    FileObject,
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImagesResponse,
    Model,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject
from pydantic import TypeAdapter

from tests.images import photograph
from tests.processes import Installation


PHOTO = "data:image/jpeg;base64," + base64.b64encode(photograph()).decode()
FORM = {"image": ("a.jpg", photograph(), "image/jpeg")}


@pytest.fixture
def call(darkroom: Installation) -> Any:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {darkroom.key}"

        def ask(path: str, body: Any = None, method: str = "", **options: Any) -> Any:
            method = method or ("GET" if body is None and not options else "POST")
            return session.request(
                method, f"{darkroom.url}{path}", json=body, timeout=60, **options
            )

        yield ask


def events(answer: Any) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


@pytest.mark.parametrize("model", ["sketch", "gpt-image-2"])
@pytest.mark.parametrize("form", ["url", "b64_json"])
def test_images(call: Any, model: str, form: str) -> None:
    ask = {"prompt": "a lighthouse", "model": model, "response_format": form, "n": 2}
    answer = call("/v1/images/generations", {**ask, "quality": "hd", "style": "vivid"})
    assert answer.status_code == 200, answer.text
    assert len(ImagesResponse.model_validate_json(answer.content, strict=True).data or ()) == 2
    edit = call("/v1/images/edits", data={"prompt": "at night", "model": model}, files=FORM)
    ImagesResponse.model_validate_json(edit.content, strict=True)
    named = {**ask, "images": [{"image_url": PHOTO}]}
    ImagesResponse.model_validate_json(call("/v1/images/edits", named).content, strict=True)
    variation = call("/v1/images/variations", data={"model": model}, files=FORM)
    ImagesResponse.model_validate_json(variation.content, strict=True)


def test_events_of_images(call: Any) -> None:
    ask = {"prompt": "a lighthouse", "model": "sketch", "stream": True, "partial_images": 1}
    partial, completed = events(call("/v1/images/generations", ask))
    ImageGenPartialImageEvent.model_validate(partial, strict=True)
    ImageGenCompletedEvent.model_validate(completed, strict=True)
    fields = {name: str(value).lower() for name, value in ask.items()}
    partial, completed = events(call("/v1/images/edits", data=fields, files=FORM))
    ImageEditPartialImageEvent.model_validate(partial, strict=True)
    ImageEditCompletedEvent.model_validate(completed, strict=True)


def test_responses(call: Any) -> None:
    tools = [{"type": "image_generation", "partial_images": 1}]
    ask = {"model": "sketch", "input": "a lighthouse", "tools": tools}
    Response.model_validate_json(call("/v1/responses", ask).content)
    adapter: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    for event in events(call("/v1/responses", {**ask, "stream": True})):
        adapter.validate_python(event)
    begun = call("/v1/responses", {**ask, "background": True})
    response = Response.model_validate_json(begun.content)
    assert response.background
    shown = call(f"/v1/responses/{response.id}")
    Response.model_validate_json(shown.content)
    Response.model_validate_json(call(f"/v1/responses/{response.id}/cancel", {}).content)


@pytest.mark.parametrize("model", ["sketch", "gpt-image-2"])
@pytest.mark.parametrize(
    "content",
    [
        "a lighthouse",
        [{"type": "text", "text": "at night"}, {"type": "image_url", "image_url": {"url": PHOTO}}],
    ],
    ids=["text", "image"],
)
def test_chat(call: Any, model: str, content: Any) -> None:
    ask = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 4096}
    answer = call("/v1/chat/completions", ask)
    message = ChatCompletion.model_validate_json(answer.content, strict=True).choices[0].message
    assert (message.content or "").startswith("![image](data:image/png;base64,")
    for chunk in events(call("/v1/chat/completions", {**ask, "stream": True})):
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_models_and_files(call: Any) -> None:
    for model in call("/v1/models").json()["data"]:
        Model.model_validate(model, strict=True)
    Model.model_validate_json(call("/v1/models/sketch").content, strict=True)
    files = {"file": ("a.jpg", photograph(), "image/jpeg")}
    sent = call("/v1/files", data={"purpose": "vision"}, files=files)
    file = FileObject.model_validate_json(sent.content, strict=True)
    FileObject.model_validate_json(call(f"/v1/files/{file.id}").content, strict=True)
    for one in call("/v1/files").json()["data"]:
        FileObject.model_validate(one, strict=True)
    gone = call(f"/v1/files/{file.id}", method="DELETE")
    assert FileDeleted.model_validate_json(gone.content, strict=True).deleted


def test_batches(call: Any) -> None:
    line = b'{"custom_id": "a", "url": "/v1/jobs", "body": {"prompt": "a lighthouse"}}'
    file = call("/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", line)}).json()
    FileObject.model_validate(file, strict=True)
    begun = call("/v1/batches", {"input_file_id": file["id"], "endpoint": "/v1/jobs"})
    batch = Batch.model_validate_json(begun.content, strict=True)
    for one in call("/v1/batches").json()["data"]:
        Batch.model_validate(one, strict=True)
    shown = call(f"/v1/batches/{batch.id}/cancel", {})
    assert Batch.model_validate_json(shown.content, strict=True).status != "in_progress"


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/v1/images/generations", {"prompt": ""}),
        ("/v1/images/generations", {"prompt": "a [[refuse:input]] picture"}),
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/responses", {"input": 1}),
        ("/v1/files", {}),
        ("/v1/batches", {}),
        ("/v1/nothing", {}),
    ],
)
def test_errors(call: Any, path: str, ask: Any) -> None:
    answer = call(path, {"model": "gpt-image-2", **ask})
    assert 400 <= answer.status_code < 500
    ErrorObject.model_validate(answer.json()["error"], strict=True)


def test_b64_is_what_the_link_opens(call: Any) -> None:
    headers = {"Idempotency-Key": "the-same"}
    ask = {"prompt": "a lighthouse", "model": "sketch", "response_format": "b64_json"}
    inline = call("/v1/images/generations", ask, headers=headers).json()
    job = call(f"/v1/jobs/{inline['job_id']}").json()
    opened = requests.get(job["images"][0]["url"], timeout=10).content
    assert base64.b64decode(inline["data"][0]["b64_json"]) == opened
