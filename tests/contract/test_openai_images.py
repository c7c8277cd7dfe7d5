"""The `openai` SDK for Python, unmodified: only base URL and key are ours."""

import base64
import io
import urllib.request
from collections.abc import Iterator
from typing import Literal

import openai
import pytest
from openai import OpenAI
from PIL import Image, ImageChops

from tests.images import mask, photograph
from tests.processes import Installation


@pytest.fixture
def client(darkroom: Installation) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{darkroom.url}/v1", api_key=darkroom.key, max_retries=0) as client:
        yield client


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 — a link of ours
        data: bytes = answer.read()
    return data


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_generation_comes_back_as_base64_of_the_asked_size(client: OpenAI) -> None:
    answer = client.images.generate(
        model="sketch", prompt="a lighthouse", size="1024x1024", response_format="b64_json", n=2
    )
    assert answer.data is not None
    pictures = [opened(base64.b64decode(item.b64_json or "")) for item in answer.data]
    assert [picture.size for picture in pictures] == [(1024, 1024)] * 2
    assert pictures[0].format == "PNG"


def test_a_generation_comes_back_as_a_link_that_opens(client: OpenAI) -> None:
    answer = client.images.generate(
        model="sketch", prompt="a lighthouse", size="512x512", response_format="url"
    )
    assert answer.data is not None
    assert answer.data[0].url is not None
    assert opened(fetched(answer.data[0].url)).size == (512, 512)


def test_an_upstream_generation_reports_its_tokens(client: OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-2", prompt="a lighthouse", size="1024x1024")
    assert answer.data is not None
    assert opened(base64.b64decode(answer.data[0].b64_json or "")).size == (1024, 1024)
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("how", ["url", "b64_json"])
def test_an_edit_of_a_photograph_changes_it_only_within_the_mask(
    client: OpenAI, how: Literal["url", "b64_json"]
) -> None:
    before = opened(photograph()).convert("RGB")
    box = (150, 150, 350, 400)
    answer = client.images.edit(
        model="sketch",
        image=("photograph.jpg", photograph(), "image/jpeg"),
        mask=("mask.png", mask(before.size, box), "image/png"),
        prompt="a window full of stars",
        response_format=how,
    )
    assert answer.data is not None
    [item] = answer.data
    data = fetched(item.url) if item.url else base64.b64decode(item.b64_json or "")
    after = opened(data).convert("RGB")
    assert after.size == before.size
    changed = ImageChops.difference(before, after).getbbox()
    assert changed is not None, "nothing changed"
    left, top, right, bottom = changed
    assert left >= box[0]
    assert top >= box[1]
    assert right <= box[2]
    assert bottom <= box[3]


def test_an_edit_of_several_images_goes_through_the_upstream(client: OpenAI) -> None:
    files = [(f"{at}.jpg", photograph(), "image/jpeg") for at in range(3)]
    answer = client.images.edit(model="gpt-image-2", image=files, prompt="a collage")
    assert answer.data is not None
    assert opened(base64.b64decode(answer.data[0].b64_json or "")).format == "PNG"


def test_a_refusal_is_the_error_that_the_sdk_knows(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="gpt-image-2", prompt="a [[refuse:input]] picture")
    assert caught.value.code in {"content_policy", "moderation_blocked", "content_policy_violation"}


def test_a_wrong_key_is_the_error_that_the_sdk_knows(darkroom: Installation) -> None:
    with (
        OpenAI(base_url=f"{darkroom.url}/v1", api_key="sk-nobody", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.images.generate(model="sketch", prompt="a lighthouse")


def test_an_unknown_model_is_the_error_that_the_sdk_knows(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="no-such-model", prompt="a lighthouse")


def test_the_models_are_listed(client: OpenAI) -> None:
    assert {"sketch", "gpt-image-2"} <= {model.id for model in client.models.list()}
