"""The fake itself: others' tests are worth what it promises here."""

import asyncio
import base64
import io
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from PIL import Image

from storage.container import inspect
from tests.upstream import pictures, server
from tests.upstream.calls import fingerprint
from tests.upstream.pictures import Sitting
from tests.upstream.server import Upstream
from tests.upstream.tokens import parse


KEY = "key-1"
GENERATIONS = "/openai/v1/images/generations"
EDITS = "/openai/v1/images/edits"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with server.running() as upstream:
        yield upstream


class Client:
    """Speaks to the fake as OpenAI's clients do."""

    def __init__(self, upstream: Upstream, session: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.session = session

    async def ask(
        self, path: str, body: Any = None, *, key: str = KEY, method: str = "POST"
    ) -> tuple[int, Any]:
        """Return status and JSON; a dict is sent as JSON, a form as a form."""
        headers = {"Authorization": f"Bearer {key}"}
        content = {"data": body} if isinstance(body, aiohttp.FormData) else {"json": body}
        async with self.session.request(
            method, self.upstream.url(path), headers=headers, **content
        ) as response:
            text = await response.read()
            return response.status, orjson.loads(text) if text else None

    async def generate(self, prompt: str = "x", *, key: str = KEY, **body: Any) -> tuple[int, Any]:
        """Ask for a picture."""
        described = {"model": "gpt-image-2", "prompt": prompt, **body}
        return await self.ask(GENERATIONS, described, key=key)


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(upstream, session)


def png(side: int = 64, *, transparent: bool = False) -> bytes:
    return pictures.draw(
        Sitting(model="m", prompt="p", width=side, height=side, transparent=transparent)
    )


def form(*files: tuple[str, bytes, str], **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in {"model": "gpt-image-2", "prompt": "x", **fields}.items():
        data.add_field(name, value)
    for name, content, kind in files:
        data.add_field(name, io.BytesIO(content), filename="a.png", content_type=kind)
    return data


class TestPictures:
    def test_the_same_words_give_the_same_picture(self) -> None:
        one = Sitting(model="m", prompt="p", width=64, height=48, seed=1)
        pictures.draw.cache_clear()
        first = pictures.draw(one)
        pictures.draw.cache_clear()
        assert pictures.draw(one) == first
        assert pictures.draw(Sitting(model="m", prompt="p", width=64, height=48, seed=2)) != first

    @pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
    def test_a_picture_has_the_asked_size_and_format(self, format_: str) -> None:
        facts = inspect(
            pictures.draw(Sitting(model="m", prompt="p", width=320, height=200, format=format_))
        )
        assert (facts.width, facts.height, facts.format) == (320, 200, format_)

    def test_a_transparent_ground_has_no_colour(self) -> None:
        image = Image.open(io.BytesIO(png(transparent=True)))
        assert (image.mode, image.getchannel("A").getextrema()[0]) == ("RGBA", 0)

    @pytest.mark.parametrize("size", [60_000, 190_000, 2_400_000, 5_000_000])
    def test_a_heavy_picture_weighs_what_was_asked(self, size: int) -> None:
        data = pictures.heavy(size)
        assert inspect(data).format == "png"
        assert abs(len(data) - size) < 0.01 * size


class TestTokens:
    def test_tokens_are_read_for_one_dialect(self) -> None:
        tokens = parse("a [[503]] b [[429:2.5]] [[ark/hang]] [[openai/drop]] [[Not One]]", "openai")
        assert dict(tokens.arguments) == {"503": None, "429": "2.5", "drop": None}
        assert tokens.number("429", 1.0) == 2.5
        assert tokens.number("503", 1.0) == 1.0

    def test_a_share_of_the_pictures_is_made(self) -> None:
        tokens = parse("[[partial:2/3]]", "openai")
        assert [tokens.makes(index) for index in range(6)] == [True, True, False] * 2

    async def test_faults_end_after_the_times_they_were_asked_for(self, client: Client) -> None:
        statuses = [(await client.generate("[[503]] [[times:2]]"))[0] for _ in range(3)]
        assert statuses == [503, 503, 200]


class TestStrictness:
    @pytest.mark.parametrize(
        ("body", "param", "code"),
        [
            ({"response_format": "url"}, "response_format", "unknown_parameter"),
            ({"seed": 1}, "seed", "unknown_parameter"),
            ({"n": 11}, "n", "invalid_value"),
            ({"n": True}, "n", "invalid_value"),
            ({"size": "1000x1000"}, "size", "invalid_size"),
            ({"size": "3840x1024"}, "size", "invalid_size"),
            ({"quality": "hd"}, "quality", "invalid_value"),
            ({"background": "transparent", "output_format": "jpeg"}, "background", "invalid_value"),
            ({"output_compression": 50}, "output_compression", "invalid_value"),
            ({"partial_images": 2}, "partial_images", "invalid_value"),
            ({"prompt": ""}, "prompt", "invalid_value"),
            ({"model": "gpt-image-1"}, "model", "model_not_found"),
            ({"model": "gpt-image-1.5", "size": "1536x1536"}, "size", "invalid_value"),
        ],
    )
    async def test_what_the_real_one_refuses_is_refused(
        self, client: Client, body: dict[str, Any], param: str, code: str
    ) -> None:
        status, answer = await client.generate(**body)
        assert status in {400, 404}
        assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)

    @pytest.mark.parametrize("name", ["image", "image[]"])
    async def test_each_spelling_of_the_inputs_is_taken(self, client: Client, name: str) -> None:
        files = [(name, png(), "image/png")] * 2
        status, _ = await client.ask(EDITS, form(*files, n="2"))
        assert status == 200
        assert [part.name for part in client.upstream.calls()[0].parts] == [name, name]

    @pytest.mark.parametrize(
        ("files", "param"),
        [
            ([], "image"),
            ([("image", png(), "image/png")] * 17, "image"),
            ([("image", png(), "application/octet-stream")], "image"),
            ([("image", b"nothing", "image/png")], "image"),
            ([("image", png(), "image/png"), ("mask", png(), "image/png")], "mask"),
            (
                [("image", png(), "image/png"), ("mask", png(32, transparent=True), "image/png")],
                "mask",
            ),
            ([("picture", png(), "image/png")], "picture"),
        ],
    )
    async def test_an_edit_s_files_are_looked_at(
        self, client: Client, files: list[tuple[str, bytes, str]], param: str
    ) -> None:
        status, answer = await client.ask(EDITS, form(*files))
        assert (status, answer["error"]["param"]) == (400, param)

    async def test_an_edit_in_json_names_its_pictures(self, client: Client) -> None:
        url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
        body = {"model": "gpt-image-2", "prompt": "x"}
        good, _ = await client.ask(EDITS, {**body, "images": [{"image_url": url}]})
        both = {"image_url": url, "file_id": "file-1"}
        bad, answer = await client.ask(EDITS, {**body, "images": [both]})
        assert (good, bad, answer["error"]["param"]) == (200, 400, "images[0]")

    async def test_variations_have_no_model_any_more(self, client: Client) -> None:
        status, answer = await client.ask("/openai/v1/images/variations", {})
        assert (status, answer["error"]["code"]) == (404, "model_not_found")

    async def test_a_bad_key_is_refused_before_anything_is_read(self, client: Client) -> None:
        status, answer = await client.generate("[[503]]", key="bad-1")
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


class TestLedger:
    async def test_a_call_is_written_down_without_its_secrets(self, client: Client) -> None:
        await client.generate("a cat", size="1024x1536")
        _, (call,) = await client.ask("/_calls", method="GET")
        assert call["key"] == fingerprint(KEY)
        assert KEY not in str(call)
        assert (call["prompt"], call["body"]["size"]) == ("a cat", "1024x1536")
        assert (call["dialect"], call["status"], call["path"]) == ("openai", 200, GENERATIONS)

    async def test_calls_can_be_chosen_and_forgotten(self, client: Client) -> None:
        await client.generate("one")
        await client.generate("two")
        _, found = await client.ask("/_calls?prompt=two", method="GET")
        assert [call["prompt"] for call in found] == ["two"]
        await client.ask("/_calls", method="DELETE")
        assert await client.ask("/_calls", method="GET") == (200, [])

    async def test_each_call_is_billed_by_its_tokens(self, client: Client) -> None:
        _, answer = await client.generate(n=2, quality="high")
        usage = answer["usage"]
        _, bill = await client.ask("/_bill", method="GET")
        tokens = usage["input_tokens"] * 5 + usage["output_tokens"] * 30
        assert bill["total"] == pytest.approx(tokens / 1e6)
        assert bill["keys"][fingerprint(KEY)] == {"calls": 1, "total": bill["total"]}

    async def test_a_flat_price_makes_bills_round(self, client: Client) -> None:
        await client.ask("/_prices", {"openai": 0.04}, method="PUT")
        await client.generate(n=3)
        assert client.upstream.ledger.bill()["total"] == 0.12

    @pytest.mark.parametrize("token", ["400", "429", "500", "unauthorized", "refuse:input"])
    async def test_a_refusal_costs_nothing(self, client: Client, token: str) -> None:
        status, _ = await client.generate(f"[[{token}]]")
        assert status >= 400
        assert client.upstream.ledger.bill()["total"] == 0.0

    async def test_who_leaves_pays_all_the_same(self, client: Client) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.generate("[[slow:0.2]]")
        async with asyncio.timeout(2):
            while client.upstream.calls()[0].status is None:
                await asyncio.sleep(0.02)
        assert client.upstream.ledger.bill()["total"] > 0

    async def test_the_peak_of_open_calls_is_known(self, client: Client) -> None:
        await asyncio.gather(*(client.generate("[[slow:0.1]]") for _ in range(4)))
        await client.generate()
        _, bill = await client.ask("/_bill", method="GET")
        assert bill["peaks"] == {"openai": 4}


class TestRules:
    async def test_a_rule_hits_one_key_for_some_times(self, client: Client) -> None:
        rule = {"dialect": "openai", "key": KEY, "status": 429, "seconds": 3, "times": 1}
        await client.ask("/_faults", rule)
        assert (await client.generate(key="key-2"))[0] == 200
        assert (await client.generate())[0] == 429
        assert (await client.generate())[0] == 200
        _, ((hit),) = await client.ask("/_faults", method="GET")
        assert hit == {"tokens": {"429": "3"}, "hits": 1}

    async def test_a_rule_of_another_dialect_does_not_hit(self, client: Client) -> None:
        client.upstream.rule(dialect="ark", status=503)
        assert (await client.generate())[0] == 200

    async def test_rules_last_until_they_are_dropped(self, client: Client) -> None:
        client.upstream.rule(status=503)
        assert [(await client.generate())[0] for _ in range(3)] == [503] * 3
        await client.ask("/_faults", method="DELETE")
        assert (await client.generate())[0] == 200

    async def test_a_share_of_the_calls_is_hit(self, client: Client) -> None:
        client.upstream.rule(status=503, share=0.5)
        statuses = [(await client.generate("[[empty]]"))[0] for _ in range(40)]
        assert 8 < statuses.count(503) < 32

    async def test_a_rule_can_be_any_token(self, client: Client) -> None:
        client.upstream.rule(token="refuse:input")
        assert (await client.generate())[1]["error"]["code"] == "moderation_blocked"


class TestDelivery:
    async def test_a_bomb_is_small_until_it_is_opened(self, client: Client) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"model": "gpt-image-2", "prompt": "[[bomb]]"}
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            url = client.upstream.url(GENERATIONS)
            async with session.post(url, json=body, headers=headers) as response:
                packed = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(packed) < 5_000_000
        opened = zlib.decompressobj(31).decompress(packed, 50_000_000)
        assert opened.startswith(b'{"created"')
        assert len(opened) == 50_000_000

    async def test_an_answer_of_a_given_size_is_made_once(self, client: Client) -> None:
        _, first = await client.generate("[[bytes:190000]]")
        assert abs(len(orjson.dumps(first)) - 190_000) < 10_000
        assert await client.generate("[[bytes:190000]]") == (200, first)

    @pytest.mark.parametrize(("token", "status"), [("expired-url", 403), ("expired-url:html", 200)])
    async def test_an_expired_link_gives_no_picture(
        self, client: Client, token: str, status: int
    ) -> None:
        _, answer = await client.generate(f"[[{token}]]", model="local-flux")
        async with client.session.get(answer["data"][0]["url"]) as response:
            assert response.status == status
            assert not response.content_type.startswith("image/")

    async def test_a_link_gives_its_picture_only_without_a_key(self, client: Client) -> None:
        _, answer = await client.generate(model="local-flux")
        url = answer["data"][0]["url"]
        async with client.session.get(url) as response:
            assert inspect(await response.read()).format == "png"
        async with client.session.get(url, headers={"Authorization": "Bearer x"}) as response:
            assert response.status == 400
