"""The asynchronous `openai` SDK for Python, unmodified."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.images import photograph
from tests.processes import Installation


pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def client(darkroom: Installation) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{darkroom.url}/v1", api_key=darkroom.key, max_retries=0
    ) as client:
        yield client


async def test_many_generations_at_once(client: AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(
            client.images.generate(model="sketch", prompt=f"lighthouse {at}", size="256x256")
            for at in range(8)
        )
    )
    pictures = {item.b64_json for answer in answers for item in answer.data or ()}
    assert len(pictures) == 8


async def test_an_edit(client: AsyncOpenAI) -> None:
    answer = await client.images.edit(
        model="sketch", image=[("a.jpg", photograph(), "image/jpeg")], prompt="at night"
    )
    assert answer.data is not None
    assert base64.b64decode(answer.data[0].b64_json or "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenAI's own, of its SDK
async def test_a_variation(client: AsyncOpenAI) -> None:
    answer = await client.images.create_variation(
        image=("a.jpg", photograph(), "image/jpeg"), response_format="url"
    )
    assert answer.data is not None
    assert answer.data[0].url


async def test_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.images.generate(
        model="sketch", prompt="a lighthouse", stream=True, partial_images=1
    )
    kinds = [event.type async for event in stream]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]


async def test_a_response_and_a_chat(client: AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="sketch", input="a lighthouse", tools=[{"type": "image_generation"}]
    )
    assert response.output[0].type == "image_generation_call"
    chat = await client.chat.completions.create(
        model="sketch", messages=[{"role": "user", "content": "a lighthouse"}]
    )
    assert chat.choices[0].message.images  # type: ignore[attr-defined]  # not OpenAI's own
