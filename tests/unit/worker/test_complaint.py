from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from storage.failure import FailureCode
from worker.complaint import (
    MAX_HINT,
    MAX_TEXT,
    Complaint,
    code_of,
    complaint,
    explained,
    presentable,
    retry_after,
    seconds,
)


NOW = 1_793_000_000.0


def read(body: object, status: int = 400, headers: Mapping[str, str] | None = None) -> Complaint:
    return complaint(status, CIMultiDict(headers or {}), orjson.dumps(body), now=NOW)


class TestEnvelopes:
    @pytest.mark.parametrize(
        ("body", "message", "code", "kind"),
        [
            ({"error": {"message": "m", "type": "t", "code": "c"}}, "m", "c", "t"),
            ({"error": {"message": "m", "code": 429, "status": "X"}}, "m", "429", "X"),
            ([{"error": {"message": "m", "code": 503}}], "m", "503", ""),
            ({"error": "m"}, "m", "", ""),
            ({"error": "m", "code": "c"}, "m", "c", ""),
            ({"detail": "m"}, "m", "", ""),
            ({"message": "m"}, "m", "", ""),
            ({"name": "c", "errors": ["m"]}, "m", "c", ""),
            ({"error": {"code": None, "message": None}}, "", "", ""),
            ({"error": {"code": True}}, "", "", ""),
            ({}, "", "", ""),
            ("text", "", "", ""),
            ([], "", "", ""),
        ],
    )
    def test_each_known_envelope_is_opened(
        self, body: object, message: str, code: str, kind: str
    ) -> None:
        said = read(body)
        assert (said.message, said.code, said.kind) == (message, code, kind)

    def test_a_validation_error_says_where(self) -> None:
        detail = [
            {"loc": ["body", "prompt"], "msg": "too long", "input": "secret prompt"},
            {"msg": "and more"},
        ]
        assert read({"detail": detail}).message == "body.prompt: too long; and more"

    @pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"{"])
    def test_a_body_that_is_not_json_says_nothing(self, body: bytes) -> None:
        said = complaint(502, {}, body, now=NOW)
        assert (said.status, said.message, said.code) == (502, "", "")

    @pytest.mark.parametrize(("value", "meant"), [("true", True), ("false", False)])
    def test_whether_to_try_again_may_be_said(self, value: str, meant: bool) -> None:
        assert read({}, headers={"X-Should-Retry": value}).should_retry is meant
        assert read({}).should_retry is None


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, FailureCode.INVALID_REQUEST),
            (401, FailureCode.AUTH),
            (402, FailureCode.BILLING),
            (403, FailureCode.PERMISSION),
            (404, FailureCode.MODEL_NOT_FOUND),
            (408, FailureCode.UPSTREAM_TIMEOUT),
            (413, FailureCode.INVALID_REQUEST),
            (422, FailureCode.INVALID_REQUEST),
            (429, FailureCode.RATE_LIMITED),
            (500, FailureCode.UPSTREAM_ERROR),
            (502, FailureCode.UPSTREAM_ERROR),
            (503, FailureCode.OVERLOADED),
            (504, FailureCode.UPSTREAM_TIMEOUT),
            (520, FailureCode.UPSTREAM_ERROR),
            (529, FailureCode.OVERLOADED),
            (302, FailureCode.UPSTREAM_ERROR),
            (200, FailureCode.UPSTREAM_ERROR),
        ],
    )
    def test_a_status_has_a_meaning_of_its_own(self, status: int, code: FailureCode) -> None:
        assert code_of(status) is code


class TestWords:
    @pytest.mark.parametrize(
        "code",
        [
            FailureCode.AUTH,
            FailureCode.PERMISSION,
            FailureCode.BILLING,
            FailureCode.MODEL_NOT_FOUND,
            FailureCode.RATE_LIMITED,
            FailureCode.OVERLOADED,
            FailureCode.UPSTREAM_TIMEOUT,
            FailureCode.UPSTREAM_ERROR,
        ],
    )
    def test_what_the_caller_cannot_act_on_is_said_in_our_words(self, code: FailureCode) -> None:
        said = Complaint(status=500, message="org-42 at host-7 has no balance")
        assert "org-42" not in explained(said, code)

    @pytest.mark.parametrize(
        "code",
        [FailureCode.CONTENT_POLICY, FailureCode.INVALID_REQUEST, FailureCode.INVALID_IMAGE],
    )
    def test_what_the_caller_can_act_on_is_passed_on(self, code: FailureCode) -> None:
        assert explained(Complaint(status=400, message="size is odd"), code) == "size is odd"
        assert explained(Complaint(status=400), code)

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Key sk-proj-0123456789abcdefgh is bad", "Key [key] is bad"),
            ("Bearer abc.def refused", "[key] refused"),
            ("see https://x.example/a?sig=1&b=2 now", "see https://x.example/a now"),
            ("got data:image/png;base64,iVBORw0KGgo= here", "got [data] here"),
            (f"token {'a' * 90} end", "token [data] end"),
            ("two\r\nlines\x00", "two lines"),
            ("the hidden words here", "the […] here"),
            ("plain", "plain"),
        ],
    )
    def test_nothing_unfit_is_shown(self, text: str, shown: str) -> None:
        assert presentable(text, hide=("hidden words", None, "")) == shown

    def test_a_short_prompt_does_not_blank_the_message(self) -> None:
        assert presentable("a cat is a cat", hide=("cat",)) == "a cat is a cat"

    def test_a_long_text_is_cut(self) -> None:
        shown = presentable("word " * 10_000)
        assert len(shown) == MAX_TEXT
        assert shown.endswith("…")


class TestHints:
    @pytest.mark.parametrize(
        ("headers", "wait"),
        [
            ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
            ({"Retry-After": "9"}, 9.0),
            ({"Retry-After": "0"}, 0.0),
            ({"Retry-After": formatdate(NOW + 30, usegmt=True)}, 30.0),
            ({"Retry-After": formatdate(NOW - 30, usegmt=True)}, 0.0),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-5"}, None),
            ({"Retry-After": "nan"}, None),
            ({"Retry-After": str(MAX_HINT + 1)}, None),
            ({}, None),
        ],
    )
    def test_headers_say_how_long_to_wait(
        self, headers: dict[str, str], wait: float | None
    ) -> None:
        assert retry_after(CIMultiDict(headers), now=NOW) == wait

    @pytest.mark.parametrize(
        ("headers", "wait"),
        [
            ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2s"}, 62.0),
            ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "1m2s"}, None),
            (
                {
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "1s",
                    "x-ratelimit-remaining-tokens": "0",
                    "x-ratelimit-reset-tokens": "20ms",
                },
                1.0,
            ),
            ({"X-RateLimit-Reset": str(int((NOW + 12) * 1000))}, 12.0),
            ({"X-RateLimit-Reset": str(int(NOW + 12))}, 12.0),
            ({"X-RateLimit-Reset": "12", "X-RateLimit-Remaining": "3"}, None),
        ],
    )
    def test_a_limit_that_is_used_up_says_when_it_is_reset(
        self, headers: dict[str, str], wait: float | None
    ) -> None:
        assert retry_after(CIMultiDict(headers), now=NOW) == wait

    @pytest.mark.parametrize(
        ("body", "wait"),
        [
            ({"error": {"details": [{"@type": "x"}, {"retryDelay": "34.4s"}]}}, 34.4),
            ({"error": {"availability": {"retry_after": 5}}}, 5.0),
            ({"retry_after": "7"}, 7.0),
            ({"error": {"retry_after": 8}}, 8.0),
            ({"error": {"details": "none"}}, None),
        ],
    )
    def test_bodies_say_how_long_to_wait(self, body: Any, wait: float | None) -> None:
        assert read(body, 429).retry_after == wait
        assert read(body, 429, {"Retry-After": "1"}).retry_after == 1.0

    @pytest.mark.parametrize(
        ("text", "duration"),
        [
            ("6m0s", 360.0),
            ("1s", 1.0),
            ("34.4s", 34.4),
            ("20ms", 0.02),
            ("1h2m3s", 3723.0),
            ("", None),
            ("soon", None),
            ("1.2.3s", None),
        ],
    )
    def test_durations_are_read(self, text: str, duration: float | None) -> None:
        assert seconds(text) == duration
