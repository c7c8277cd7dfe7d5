from typing import Any

import pytest

from tests.upstream import pictures
from worker import wire
from worker.chat_reply import MAX_REFERENCES, ChatReply, references


PNG = pictures.draw(pictures.Sitting(model="m", prompt="p", width=16, height=16))
DATA = wire.data_url(PNG, "image/png")
BARE = wire.encode(PNG)
A = "https://cdn.example/a.png?sig=1"
B = "https://cdn.example/b.webp"


def said(content: object, **more: Any) -> ChatReply:
    reply = ChatReply()
    message = {"role": "assistant", "content": content, **more}
    reply.add({"id": "1", "choices": [{"message": message, "finish_reason": "stop"}]})
    return reply


def first(reply: ChatReply) -> list[str]:
    """Return the surest group that is not empty."""
    return next((group for group in reply.candidates() if group), [])


@pytest.mark.parametrize(
    "item",
    [
        {"type": "image_url", "image_url": {"url": DATA}},
        {"image_url": DATA},
        {"url": DATA},
        DATA,
        {"type": "output_image", "image": {"url": DATA}},
        {"type": "image", "source": {"type": "base64", "data": DATA}},
    ],
)
def test_each_kind_of_item_in_a_list_is_known(item: object) -> None:
    assert first(said("", images=[item])) == [DATA]
    if isinstance(item, dict):
        assert first(said([{"type": "text", "text": "Here."}, item])) == [DATA]


@pytest.mark.parametrize("item", [{"b64_json": BARE}, {"inline_data": {"data": BARE}}, BARE])
def test_bare_base64_counts_if_it_begins_like_a_picture(item: object) -> None:
    assert first(said("", images=[item])) == [BARE]
    assert first(said("", images=["A" * 200])) == []


@pytest.mark.parametrize("name", ["image", "image_url"])
def test_a_member_of_the_message_may_lead_to_it(name: str) -> None:
    assert first(said("", **{name: A})) == [A]


def test_the_shape_of_the_images_api_is_known() -> None:
    reply = ChatReply()
    reply.add({"created": 1, "data": [{"url": A}, {"b64_json": BARE}]})
    assert first(reply) == [A, BARE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"![image]({DATA})", [DATA]),
        (f"![gen]({A})", [A]),
        (f"![a]({A}) and ![b]({B})", [A, B]),
        (f"![a](<{A}>)", [A]),
        (f'![a]({A} "a title")', [A]),
        ("![a](https://x.example/a_(1).png)", ["https://x.example/a_(1).png"]),
        (A, [A]),
        (f"  {DATA}\n", [DATA]),
        (BARE, [BARE]),
        (f"Done: {A}.", [A]),
        (f"[download]({A})", [A]),
        ("Look: https://x.example/view/17", ["https://x.example/view/17"]),
        ("[open](https://x.example/view/17)", ["https://x.example/view/17"]),
        ("Nothing to see.", []),
    ],
)
def test_a_picture_is_found_in_a_text(text: str, expected: list[str]) -> None:
    assert first(said(text)) == expected


def test_a_shown_picture_goes_before_links_to_it() -> None:
    text = f"> queued\n> drawing 30%\n\n![gen]({A})\n\n[download]({A}&dl=1)"
    assert first(said(text)) == [A]


def test_a_url_in_a_code_block_is_not_a_result() -> None:
    text = f'```json\n{{"prompt": "x", "image": "{B}"}}\n```\nDone: {A}'
    assert first(said(text)) == [A]


def test_a_code_block_that_never_ends_hides_the_rest() -> None:
    assert first(said(f"```json\n{B}")) == []


def test_the_pieces_of_a_stream_make_one_text() -> None:
    reply = ChatReply()
    text = f"![image]({DATA})"
    for start in range(0, len(text), 7):
        delta = {"content": text[start : start + 7]}
        reply.add({"id": "s", "choices": [{"delta": delta}]})
    reply.add({"choices": [{"delta": {}, "finish_reason": "content_filter"}], "usage": {"a": 1}})
    assert first(reply) == [DATA]
    assert (reply.finish, reply.id, reply.usage) == ("content_filter", "s", {"a": 1})


def test_images_of_a_stream_are_gathered() -> None:
    reply = ChatReply()
    reply.add({"choices": [{"delta": {"images": [{"image_url": {"url": DATA}}]}}]})
    reply.add({"choices": [{"delta": {"image": [A]}}]})
    assert first(reply) == [DATA, A]


@pytest.mark.parametrize(
    "body",
    [
        {"choices": None},
        {"choices": [None, 1, "x", {"message": "text"}]},
        {"choices": [{"message": {"content": 7, "images": {"a": 1}}}]},
        {"data": "text", "usage": [], "id": 3},
        {},
    ],
)
def test_foreign_types_read_as_absent(body: dict[str, Any]) -> None:
    reply = ChatReply()
    reply.add(body)
    assert first(reply) == []


def test_what_is_gathered_is_bounded() -> None:
    assert len(references([A] * 1000)) == MAX_REFERENCES
    deep: object = A
    for _ in range(50):
        deep = {"data": deep}
    assert references(deep) == []


def test_a_result_of_a_task_is_found_where_relays_put_it() -> None:
    assert references({"data": {"result": {"images": [{"url": [A]}]}}}) == [A]
    assert references({"results": [A, B]}) == [A, B]
    assert references({"data": {"data": {"data": [{"url": A}]}}}) == [A]
    assert references({"image_url": A, "prompt": B}) == [A]
