import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import wire


PICTURE = b"\x89PNG and so on"
TEXT = base64.b64encode(PICTURE).decode()


class TestReadObject:
    def test_an_object_is_read(self) -> None:
        assert wire.read_object(b'{"a": [1]}') == {"a": [1]}

    @pytest.mark.parametrize(
        "body",
        [b"", b"<html>", b'{"a": 1', b"[1]", b"null", b'"text"', b"\xff", b"[" * 100_000],
    )
    def test_anything_else_is_unreadable(self, body: bytes) -> None:
        with pytest.raises(wire.Unreadable):
            wire.read_object(body)


VALUE = {"data": [{"url": "u", "n": 3, "ok": True, "none": None}], "usage": {"cost": "0.5"}}


class TestAt:
    def test_what_stands_at_a_path_is_found(self) -> None:
        assert wire.at(VALUE, "data", 0, "url", kind=str) == "u"
        assert wire.at(VALUE, "data", -1, "n", kind=int) == 3
        assert wire.at(VALUE, "data", 0, "ok", kind=bool) is True

    @pytest.mark.parametrize(
        "path",
        [
            ("data", 1, "url"),
            ("data", "url"),
            (0,),
            ("data", 0, "url", 0),
            ("data", 0, "none"),
            ("data", 0, "n"),
        ],
    )
    def test_what_is_not_there_or_of_another_type_is_none(
        self, path: tuple[str | int, ...]
    ) -> None:
        assert wire.at(VALUE, *path, kind=str) is None

    def test_true_is_not_a_number(self) -> None:
        assert wire.at(VALUE, "data", 0, "ok", kind=int) is None

    @pytest.mark.parametrize(
        ("value", "number"),
        [
            ("0.5", 0.5),
            (2, 2.0),
            (0.25, 0.25),
            (True, None),
            ("1e3", None),
            (None, None),
            ("", None),
            (float("inf"), None),
            ([], None),
        ],
    )
    def test_a_number_may_be_written_as_a_string(self, value: object, number: float | None) -> None:
        assert wire.number_at({"x": value}, "x") == number

    def test_only_the_objects_of_a_list_are_items(self) -> None:
        assert wire.items_at({"data": [{"a": 1}, "b", None, {"c": 2}]}, "data") == [
            {"a": 1},
            {"c": 2},
        ]
        assert wire.items_at({"data": {"a": 1}}, "data") == []


class TestDecode:
    def test_what_was_encoded_comes_back(self) -> None:
        assert wire.decode(TEXT) == PICTURE
        assert wire.decode(wire.encode(PICTURE)) == PICTURE

    @pytest.mark.parametrize(
        "text",
        ["", TEXT[:-1], TEXT[:7], f"{TEXT}*", f"*{TEXT}", f"{TEXT[:4]}\n{TEXT[4:]}", "é" * 8],
    )
    def test_damaged_base64_is_unreadable(self, text: str) -> None:
        with pytest.raises(wire.Unreadable):
            wire.decode(text)

    def test_the_limit_is_of_decoded_bytes(self) -> None:
        text = wire.encode(b"a" * 30)
        assert len(wire.decode(text, limit=30)) == 30
        with pytest.raises(wire.Unreadable, match="larger than 29 bytes"):
            wire.decode(text, limit=29)


class TestDataUrls:
    @pytest.mark.parametrize(
        "head",
        [
            "data:image/png;base64,",
            "DATA:image/png;base64,",
            "data:;base64,",
            "data:image/svg+xml;charset=utf-8;base64,",
        ],
    )
    def test_a_data_url_carries_its_bytes(self, head: str) -> None:
        assert wire.is_data_url(head + TEXT)
        assert wire.decode_data_url(head + TEXT) == PICTURE

    @pytest.mark.parametrize(
        "url", ["https://example.com/data:image/png;base64,", "data:image/png,abc", "", TEXT]
    )
    def test_other_urls_do_not(self, url: str) -> None:
        assert not wire.is_data_url(url)
        with pytest.raises(wire.Unreadable):
            wire.decode_data_url(url)

    def test_a_data_url_is_written_as_it_is_read(self) -> None:
        url = wire.data_url(PICTURE, "image/png")
        assert url.startswith("data:image/png;base64,")
        assert wire.decode_data_url(url) == PICTURE


class TestLargeStrings:
    """What `read_large` lifts out is found again where it stood, and nothing else changes."""

    def test_a_long_string_is_lifted_and_found_where_it_stood(self) -> None:
        text = "QUJD" * wire.LARGE
        body = orjson.dumps({"data": [{"b64_json": text}, {"b64_json": "QQ=="}], "n": 2})
        read, lifted = wire.read_large(body, "b64_json")
        assert len(lifted) == 1
        assert self.text(wire.large_at(read, lifted, "data", 0, "b64_json")) == text
        assert wire.large_at(read, lifted, "data", 1, "b64_json") == "QQ=="
        assert read["n"] == 2

    def test_several_are_told_apart(self) -> None:
        texts = [letter * wire.LARGE for letter in "ABC"]
        body = orjson.dumps({"data": [{"b64_json": text} for text in texts]})
        read, lifted = wire.read_large(body, "b64_json")
        found = [wire.large_at(read, lifted, "data", at, "b64_json") for at in range(3)]
        assert [self.text(one) for one in found] == texts

    def test_space_around_the_colon_changes_nothing(self) -> None:
        body = b'{"b64_json" \n:  "' + b"A" * wire.LARGE + b'"}'
        read, lifted = wire.read_large(body, "b64_json")
        assert self.text(wire.large_at(read, lifted, "b64_json")) == "A" * wire.LARGE

    def test_a_string_with_escapes_is_left_to_the_parser(self) -> None:
        body = b'{"b64_json":"' + b"A" * wire.LARGE + b'\\/AA"}'
        read, lifted = wire.read_large(body, "b64_json")
        assert not lifted
        assert wire.large_at(read, lifted, "b64_json") == "A" * wire.LARGE + "/AA"

    def test_a_prompt_that_looks_like_an_answer_is_no_answer(self) -> None:
        prompt = '"b64_json":"' + "A" * wire.LARGE
        body = orjson.dumps({"prompt": prompt, "data": []})
        read, lifted = wire.read_large(body, "b64_json")
        assert not lifted
        assert read["prompt"] == prompt

    def test_words_that_look_like_a_mark_stay_words(self) -> None:
        read, lifted = wire.read_large(b'{"b64_json":"lifted out, number 7"}', "b64_json")
        assert wire.large_at(read, lifted, "b64_json") == "lifted out, number 7"

    @given(st.binary(max_size=400))
    def test_whatever_comes_is_read_as_the_parser_reads_it_or_is_no_picture(
        self, noise: bytes
    ) -> None:
        body = b'{"b64_json":"' + b"A" * wire.LARGE + noise
        try:
            plain = wire.read_object(body)
        except wire.Unreadable:
            with pytest.raises(wire.Unreadable):  # by the parser, or at the latest as base64
                self.pictured(body)
            return
        read, lifted = wire.read_large(body, "b64_json")
        assert self.text(wire.large_at(read, lifted, "b64_json")) == plain["b64_json"]

    def text(self, found: str | memoryview | None) -> str:
        return bytes(found).decode() if isinstance(found, memoryview) else found or ""

    def pictured(self, body: bytes) -> bytes:
        read, lifted = wire.read_large(body, "b64_json")
        return wire.decode(wire.large_at(read, lifted, "b64_json") or "")
