"""The code samples of other gateways, sent as their users would: only address, key, model ours."""

import base64
from typing import Any

import pytest
import requests

from tests.images import photograph
from tests.processes import Installation


PHOTO = "data:image/jpeg;base64," + base64.b64encode(photograph()).decode()


@pytest.fixture
def headers(darkroom: Installation) -> dict[str, str]:
    return {"Authorization": f"Bearer {darkroom.key}", "Content-Type": "application/json"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions"])
def test_a_gateways_chat_with_modalities(
    darkroom: Installation, headers: dict[str, str], path: str
) -> None:
    payload: dict[str, Any] = {
        "model": "sketch",
        "messages": [
            {"role": "user", "content": "Generate a beautiful sunset over mountains"},
        ],
        "modalities": ["image", "text"],
    }
    url = f"{darkroom.url}{path}"
    result = requests.post(url, headers=headers, json=payload, timeout=60).json()
    message = result["choices"][0]["message"]
    found = [part for part in message["content"] if part["type"] == "image_url"]
    assert found[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_gateways_chat_with_the_image_tool(
    darkroom: Installation, headers: dict[str, str]
) -> None:
    payload: dict[str, Any] = {
        "model": "sketch",
        "messages": [{"role": "user", "content": "a red apple"}],
        "tools": [
            {
                "type": "image_generation",
                "image_generation": {
                    "background": "transparent",
                    "input_fidelity": "high",
                    "moderation": "low",
                    "output_compression": 80,
                    "output_format": "webp",
                    "partial_images": 0,
                    "quality": "high",
                    "size": "512x512",
                    "watermark": False,
                },
            }
        ],
    }
    url = f"{darkroom.url}/v1/chat/completions"
    result = requests.post(url, headers=headers, json=payload, timeout=60).json()
    message = result["choices"][0]["message"]
    assert message["tool_calls"][0]["type"] == "image_generation"
    assert message["tool_calls"][0]["id"]
    assert [part["type"] for part in message["content"]] == ["image_url"]
    assert message["images"][0]["image_url"]["url"].startswith("data:image/webp;base64,")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions"])
def test_a_relays_chat_with_a_picture(
    darkroom: Installation, headers: dict[str, str], path: str
) -> None:
    payload: dict[str, Any] = {
        "model": "sketch",
        "max_tokens": 4096,
        "stream": False,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Make this a watercolour"},
                    {"type": "image_url", "image_url": {"url": PHOTO}},
                ],
            }
        ],
    }
    url = f"{darkroom.url}{path}"
    answer = requests.post(url, headers=headers, json=payload, timeout=60)
    assert answer.status_code == 200
    message = answer.json()["choices"][0]["message"]
    assert message["images"]
    # A relay's clients look for Markdown in a text, a gateway's for parts.
    if path.startswith("/api/"):
        assert [part["type"] for part in message["content"]] == ["image_url"]
    else:
        assert message["content"].startswith("![image](data:image/png;base64,")


@pytest.mark.parametrize("image", [None, PHOTO, [PHOTO, PHOTO]], ids=["none", "one", "two"])
def test_a_hubs_generation(darkroom: Installation, headers: dict[str, str], image: Any) -> None:
    payload: dict[str, Any] = {
        "prompt": "a lighthouse",
        "n": 2,
        "size": "512x512",
        "quality": "standard",
    }
    if image is not None:
        payload["image"] = image
    url = f"{darkroom.url}/api/images/generations"
    result = requests.post(url, headers=headers, json=payload, timeout=60).json()
    assert isinstance(result["created"], int)
    assert len(result["data"]) == 2
    for item in result["data"]:
        opened = requests.get(item["url"], timeout=10)
        assert opened.headers["Content-Type"] == "image/png"


def test_a_hubs_generation_without_a_model(darkroom: Installation, headers: dict[str, str]) -> None:
    url = f"{darkroom.url}/api/images/generations"
    answer = requests.post(url, headers=headers, json={"prompt": "a lighthouse"}, timeout=60)
    assert answer.json()["warnings"][0]["requested"] == "dall-e-2"
