"""One upstream as its provider calls it, against a server that keeps no promise."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from storage.address import Allowance
from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker.complaint import Complaint, code_of
from worker.provider import Order, Picture, ProviderError
from worker.upstream import MAX_COMPLAINT, Upstream, room
from worker.web import Web


KEY = "sk-canary-0123456789abcdef"
MIB = 1024 * 1024


@dataclass
class Server:
    """Answers as the path says, at two addresses, and notes who asked with the key."""

    url: str = ""
    elsewhere: str = ""
    calls: list[tuple[str, bool]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        keyed = KEY in request.headers.get("Authorization", "")
        self.calls.append((request.path, keyed))
        match request.path.split("/")[1:]:
            case ["v1", "status", status]:
                return web.Response(status=int(status), text='{"error": {"message": "said"}}')
            case ["v1", "long"]:
                return web.Response(status=400, text="x" * (MAX_COMPLAINT + 1000))
            case ["v1", "text", text]:
                return web.Response(text=text)
            case ["picture"]:
                return web.Response(body=b"picture")
            case ["busy"]:
                busy = sum(path == "/busy" for path, _ in self.calls) < 3
                return web.Response(status=503) if busy else web.Response(body=b"picture")
            case ["away"]:
                return web.Response(status=302, headers={"Location": "/picture"})
            case _:
                return web.Response(status=404)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url, server.elsewhere = (f"http://127.0.0.1:{port}" for _, port in runner.addresses)
    yield server
    await runner.cleanup()


@pytest.fixture
async def upstream(server: Server) -> AsyncIterator[Upstream]:
    deployment = Deployment(
        name="d", model="m", provider="openai", base_url=f"{server.url}/v1", timeout=5.0
    )
    async with Web(allowance=Allowance.parse("127.0.0.0/8")) as door:
        yield Upstream(
            door,
            deployment,
            api_key=KEY,
            headers={"Authorization": f"Bearer {KEY}"},
            judge=judge,
        )


def judge(said: Complaint) -> FailureCode:
    return FailureCode.CONTENT_POLICY if said.status == 418 else code_of(said.status)


def order(**changes: object) -> Order:
    described = {"job_id": "j", "attempt": 1, "edit": False, "model": "m", "prompt": "p"}
    return Order(**{**described, **changes})  # type: ignore[arg-type]  # a test's own fields


class TestCalls:
    @pytest.mark.parametrize(
        ("status", "code", "unknown"),
        [
            (400, FailureCode.INVALID_REQUEST, False),
            (418, FailureCode.CONTENT_POLICY, False),
            (500, FailureCode.UPSTREAM_ERROR, False),
            (504, FailureCode.UPSTREAM_TIMEOUT, True),
            (524, FailureCode.UPSTREAM_TIMEOUT, True),
        ],
    )
    async def test_a_status_is_judged_by_the_dialect(
        self, upstream: Upstream, status: int, code: FailureCode, unknown: bool
    ) -> None:
        with pytest.raises(ProviderError) as raised:
            await upstream.call("POST", f"/status/{status}", limit=1000)
        assert (raised.value.code, raised.value.outcome_unknown) == (code, unknown)

    async def test_a_redirect_is_not_followed(self, server: Server, upstream: Upstream) -> None:
        with pytest.raises(ProviderError):
            await upstream.call("GET", f"{server.url}/away", limit=1000)
        assert [path for path, _ in server.calls] == ["/away"]

    async def test_of_an_error_without_end_the_beginning_will_do(self, upstream: Upstream) -> None:
        with pytest.raises(ProviderError) as raised:
            await upstream.call("POST", "/long", limit=1000)
        assert raised.value.code is FailureCode.INVALID_REQUEST

    @pytest.mark.parametrize("text", ["[]", "text"])
    async def test_an_answer_that_is_no_object_may_have_been_paid_for(
        self, upstream: Upstream, text: str
    ) -> None:
        answer = await upstream.call("GET", f"/text/{text}", limit=1000)
        with pytest.raises(ProviderError) as raised:
            upstream.read(answer)
        assert raised.value.outcome_unknown

    async def test_the_prompt_and_the_key_are_kept_out_of_what_is_shown(
        self, upstream: Upstream
    ) -> None:
        shown = upstream.shown(f"{KEY} may not say: a secret prompt", prompt="a secret prompt")
        assert KEY not in shown
        assert "secret" not in shown


class TestPictures:
    async def test_the_key_goes_to_a_path_only(self, server: Server, upstream: Upstream) -> None:
        for url in ("/picture", f"{server.url}/picture", f"{server.url}/away"):
            await upstream.picture(url, limit=MIB)
        assert server.calls == [("/picture", True), ("/picture", False), ("/away", False)]

    async def test_a_picture_elsewhere_is_followed_there_without_the_key(
        self, server: Server, upstream: Upstream
    ) -> None:
        outcome = await upstream.picture(f"{server.elsewhere}/away", limit=MIB, revised_prompt="r")
        assert outcome == Picture(data=b"picture", revised_prompt="r")
        assert server.calls == [("/away", False), ("/picture", False)]

    async def test_a_picture_that_is_paid_for_is_asked_for_again(
        self, server: Server, upstream: Upstream
    ) -> None:
        outcome = await upstream.picture(f"{server.url}/busy", limit=MIB, revised_prompt="r")
        assert outcome == Picture(data=b"picture", revised_prompt="r")
        assert len(server.calls) == 3

    @pytest.mark.parametrize(
        "url",
        [
            "/nowhere",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]:1/x",
            "file:///etc/passwd",
            "http://",
            "",
            "\x00",
        ],
    )
    async def test_a_picture_that_cannot_be_had_is_a_failure(
        self, upstream: Upstream, url: str
    ) -> None:
        outcome = await upstream.picture(url, limit=MIB)
        assert isinstance(outcome, Failure)
        assert outcome.code is FailureCode.UPSTREAM_ERROR


class TestRoom:
    def test_there_is_room_for_what_the_pixels_weigh(self) -> None:
        large = order(width=3840, height=2160)
        assert room(large) > 3840 * 2160 * 4 * 4 / 3

    def test_a_small_order_has_room_for_a_larger_picture(self) -> None:
        assert room(order(width=64, height=64)) == room(order()) > 4 * 1024**2 * 4

    def test_each_picture_and_preview_has_room(self) -> None:
        assert room(order(n=1), previews=2) == room(order(n=3)) > 2.5 * room(order(n=1))

    def test_a_tier_counts_like_its_pixels(self) -> None:
        assert room(order(resolution="4K")) > 2 * room(order(resolution="2K"))

    def test_there_is_an_end(self) -> None:
        assert room(order(n=10, width=8192, height=8192)) == 256 * MIB
