"""Event streams, however they are cut into chunks."""

from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sse import MAX_EVENT, sse
from worker.web import TooBig


async def events(chunks: Iterable[bytes], *, limit: int = MAX_EVENT) -> list[tuple[str, bytes]]:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in sse(coming(), limit=limit)]


STREAM = (
    b": keep-alive\n"
    b"\n"
    b"event: image_generation.partial_image\r\n"
    b'data: {"b64_json": "AAAA"}\r\n'
    b"\r\n"
    b"id: 7\n"
    b"retry: 100\n"
    b"data:first\n"
    b"data:  second\n"
    b"data\n"
    b"\n"
    b"event: nothing\n"
    b"\n"
    b": comment\n"
    b"data: [DONE]"
)
EVENTS = [
    ("image_generation.partial_image", b'{"b64_json": "AAAA"}'),
    ("message", b"first\n second\n"),
    ("message", b"[DONE]"),
]


async def test_events_are_read_and_comments_are_not() -> None:
    assert await events([STREAM]) == EVENTS
    assert await events([STREAM + b"\n\n"]) == EVENTS


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
async def test_where_the_stream_is_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(edges)]
    assert await events(chunks) == EVENTS


async def test_a_line_of_megabytes_in_small_chunks_is_one_event() -> None:
    data = b"A" * 4_000_000
    line = b"data: " + data + b"\n\n"
    chunks = [line[start : start + 16_384] for start in range(0, len(line), 16_384)]
    assert await events(chunks) == [("message", data)]


async def test_nothing_gives_nothing() -> None:
    assert await events([]) == []
    assert await events([b"", b"\n", b"\n\n", b": only a comment"]) == []


@pytest.mark.parametrize(
    "chunks",
    [
        [b"x" * 101],
        [b"x" * 60, b"x" * 60],
        [b"x" * 60, b"x" * 60 + b"\n"],
        [b"data: " + b"x" * 40 + b"\n"] * 3,
        [b"data:\n" * 200],
    ],
    ids=["line", "chunks", "ended", "event", "empty"],
)
async def test_an_event_over_the_limit_is_too_big(chunks: list[bytes]) -> None:
    with pytest.raises(TooBig):
        await events(chunks, limit=100)


async def test_events_within_the_limit_may_be_many() -> None:
    assert len(await events([b"data: " + b"x" * 80 + b"\n\n"] * 50, limit=100)) == 50
