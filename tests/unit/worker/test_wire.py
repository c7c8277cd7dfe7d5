import base64

import pytest

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
