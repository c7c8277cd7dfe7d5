import hashlib
from typing import Any, ClassVar

import pytest

from storage.container import inspect
from storage.failure import FailureCode
from tests.suites.provider import (
    PROMPT,
    ProviderSuite,
    failure,
    made,
    picture,
    progress,
    unknown,
)
from tests.suites.provider_task import FAST, caught
from tests.upstream.dialects.chat_relay import _WITH_BYTES, _WITH_URL
from tests.upstream.server import Upstream
from worker import wire
from worker.provider import Provider, Tools


SHAPES = sorted({*_WITH_BYTES, *_WITH_URL})


class TestChatRelay(ProviderSuite):
    provider = "chat_relay"
    place = "/chat_relay/v1"
    model = "gemini-3.1-flash-image"
    exact_size = False
    options = FAST

    @pytest.mark.parametrize("shape", SHAPES)
    async def test_the_picture_is_found_wherever_it_is(
        self, upstream: Upstream, subject: Provider, shape: str
    ) -> None:
        reply = await subject.generate(self.order(f"[[shape:{shape}]]"), progress())
        assert inspect(picture(reply).data).width == 1024

    async def test_an_answer_in_one_piece_is_read_although_a_stream_was_asked_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        assert picture(await subject.generate(self.order("[[unasked]]"), progress()))

    async def test_two_links_to_the_same_bytes_are_one_picture(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools)
        order = self.order("[[shape:markdown-url]] [[twice]]", n=2)
        reply = await subject.generate(order, progress())
        assert len(made(reply)) == 1

    async def test_a_thumbnail_beside_the_picture_is_not_the_picture(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order("[[shape:markdown-url]] [[thumbnail]]")
        reply = await subject.generate(order, progress())
        assert inspect(picture(reply).data).width == 1024

    async def test_an_apology_is_no_image_and_is_shown(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[sorry]]"))
        assert error.code is FailureCode.NO_IMAGE
        assert "can't create that picture" in error.message

    async def test_a_picture_in_words_is_not_a_picture(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[text-only]]"))
        assert error.code is FailureCode.NO_IMAGE
        assert not unknown(error)

    @pytest.mark.parametrize("token", ["expired-url", "expired-url:html", "dead-url"])
    async def test_a_link_without_a_picture_behind_it_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        error = await failure(subject, self.order(f"[[shape:links]] [[{token}]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert unknown(error)

    async def test_a_link_into_our_own_network_is_not_followed(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[shape:markdown-url]] [[private-url]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert "169.254" not in error.message

    async def test_content_is_a_list_and_the_ratio_is_said_in_words(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(aspect_ratio="3:2"), progress())
        (message,) = upstream.calls()[0].body["messages"]
        kinds = [part["type"] for part in message["content"]]
        assert kinds == ["text", "text", "image_url"]
        assert message["content"][1]["text"] == "Aspect ratio: 3:2"

    async def test_new_api_is_told_the_ratio_in_its_own_field(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, options={"image_config": True})
        await subject.generate(self.order(aspect_ratio="3:2", resolution="2K"), progress())
        body = upstream.calls()[0].body
        config = {"aspect_ratio": "3:2", "image_size": "2K"}
        assert body["extra_body"] == {"google": {"image_config": config}}

    async def test_an_input_that_is_sent_back_is_not_the_result(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject: Any = self.make(upstream, tools)
        order = self.edit()
        pictures, failed = await subject._pictures(order, [[_data_url(order.images[0].data)]])
        assert (pictures, failed) == ([], None)

    @pytest.mark.parametrize("shape", ["task", "task-data"])
    async def test_a_task_is_polled_and_resumed_and_never_submitted_again(
        self, upstream: Upstream, subject: Any, shape: str
    ) -> None:
        order, ids = self.order(f"[[shape:{shape}]] [[polls:2]]"), list[str]()
        first = await subject.generate(order, progress(ids))
        again = await subject.resume(order, ids[0], progress())
        digests = {hashlib.sha256(picture(reply).data).digest() for reply in (first, again)}
        assert len(digests) == 1
        assert [call.method for call in upstream.calls()].count("POST") == 1

    async def test_a_task_is_asked_for_where_the_answer_says(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order("[[shape:task]] [[told-url]]")
        assert picture(await subject.generate(order, progress()))
        polls = [call for call in upstream.calls() if call.method == "GET"]
        assert all(call.query == {"from": "answer"} for call in polls)

    async def test_a_task_that_failed_is_over(self, upstream: Upstream, subject: Any) -> None:
        error = await caught(
            lambda: subject.generate(self.order("[[shape:task]] [[fail]]"), progress())
        )
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert not error.outcome_unknown


class TestChatRelayInOnePiece(ProviderSuite):
    provider = "chat_relay"
    place = "/chat_relay/v1"
    model = "gemini-3-pro-image"
    exact_size = False
    options: ClassVar = {**FAST, "stream": False}

    @pytest.mark.parametrize("shape", SHAPES)
    async def test_the_picture_is_found_wherever_it_is(
        self, upstream: Upstream, subject: Provider, shape: str
    ) -> None:
        reply = await subject.generate(self.order(f"[[shape:{shape}]]"), progress())
        assert inspect(picture(reply).data).width == 1024

    async def test_a_relay_that_must_stream_is_not_asked_in_one_piece_by_default(
        self, upstream: Upstream, subject: Provider, tools: Tools
    ) -> None:
        order = self.order(f"{PROMPT} [[stream-only]]")
        error = await failure(subject, order)
        assert error.code is FailureCode.INVALID_REQUEST
        assert picture(await self.make(upstream, tools, options={}).generate(order, progress()))


def _data_url(data: bytes) -> str:
    return wire.data_url(data, "image/png")
