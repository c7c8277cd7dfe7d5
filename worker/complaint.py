"""What an upstream says when it makes no image: its envelope, its words, its hint to try again.

All dialects wrap the same few things in different paper, so the paper is taken off here, once. What
the codes inside mean is the dialect's to say. No text of an upstream leaves this module without its
keys, signed queries and payloads taken out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from storage.failure import FailureCode
from worker.wire import NUMBER, at, items_at, number_at


MAX_HINT: Final = 600.0
MAX_TEXT: Final = 500
_SHORTEST_SECRET: Final = 8

_STATUSES: Final = {
    401: FailureCode.AUTH,
    402: FailureCode.BILLING,
    403: FailureCode.PERMISSION,
    404: FailureCode.MODEL_NOT_FOUND,
    408: FailureCode.UPSTREAM_TIMEOUT,
    409: FailureCode.UPSTREAM_ERROR,
    425: FailureCode.UPSTREAM_ERROR,
    429: FailureCode.RATE_LIMITED,
    503: FailureCode.OVERLOADED,
    504: FailureCode.UPSTREAM_TIMEOUT,
    524: FailureCode.UPSTREAM_TIMEOUT,
    529: FailureCode.OVERLOADED,
}
_WORDS: Final = {
    FailureCode.AUTH: "The upstream refused the deployment's key.",
    FailureCode.PERMISSION: "The deployment's key may not do this at the upstream.",
    FailureCode.BILLING: "The deployment's account at the upstream has no money or quota left.",
    FailureCode.MODEL_NOT_FOUND: "The upstream does not serve the deployment's model.",
    FailureCode.RATE_LIMITED: "The upstream's rate limit is reached.",
    FailureCode.OVERLOADED: "The upstream is overloaded.",
    FailureCode.UPSTREAM_TIMEOUT: "The upstream did not finish in time.",
}
_FALLBACKS: Final = {
    FailureCode.CONTENT_POLICY: "The upstream's moderation refused the request.",
    FailureCode.INVALID_REQUEST: "The upstream refused the request as invalid.",
    FailureCode.INVALID_IMAGE: "The upstream refused an input image.",
    FailureCode.NO_IMAGE: "The upstream made no image.",
}
_GO_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:(\d+)ms)?")
_UNSPEAKABLE: Final = (
    (re.compile(r"data:[\w/+.-]*;base64,[\w+/=-]*"), "[data]"),
    (re.compile(r"(https?://[^\s?#\"']+)[?#][^\s\"']*"), r"\1"),
    (re.compile(r"\b(?:sk|pk|rk|key|xai|fal|r8|AIza)[-_]?[\w-]{16,}"), "[key]"),
    (re.compile(r"(?i)\bbearer\s+\S+"), "[key]"),
    (re.compile(r"[\w+/=-]{80,}"), "[data]"),
    (re.compile(r"[\x00-\x1f\x7f]+"), " "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What an upstream says when it makes no image, whichever envelope it came in.

    `code` and `kind` are its own words ("" when absent), `error` is the object that holds them.
    `message` is not fit to be shown; `explained` makes it so. `retry_after` is in seconds.
    """

    status: int
    message: str = field(default="", repr=False)
    code: str = ""
    kind: str = ""
    retry_after: float | None = None
    should_retry: bool | None = None
    error: Mapping[str, Any] = field(default_factory=dict, repr=False)


def complaint(
    status: int, headers: Mapping[str, str], body: bytes | Mapping[str, Any], *, now: float
) -> Complaint:
    """Read an answer that is an error, in any of the envelopes that are known; never raises.

    An error that came with status 200 counts by the status that it names itself.
    """
    outer = _outermost(body)
    error = at(outer, "error", kind=dict) or outer
    own = at(error, "code", kind=int) or 0
    should_retry = headers.get("x-should-retry")
    return Complaint(
        status=own if status == 200 and 400 <= own < 600 else status,
        message=_message(outer),
        code=_word(error.get("code")) or _word(outer.get("code")) or _word(outer.get("name")),
        kind=_word(error.get("type")) or _word(error.get("status")),
        retry_after=retry_after(headers, now=now, hint=_hint(outer)),
        should_retry=None if should_retry is None else should_retry.lower() == "true",
        error=error,
    )


def code_of(status: int) -> FailureCode:
    """Return what an HTTP status means when the body says nothing more precise."""
    if status in _STATUSES:
        return _STATUSES[status]
    return FailureCode.INVALID_REQUEST if 400 <= status < 500 else FailureCode.UPSTREAM_ERROR


def explained(said: Complaint, code: FailureCode, *, hide: Iterable[str | None] = ()) -> str:
    """Return the words for the caller.

    The upstream's own are kept only where the caller can act on them; what it says about keys,
    accounts and its inner troubles is not the caller's business.
    """
    if code in _WORDS:
        return _WORDS[code]
    if code in _FALLBACKS:
        return presentable(said.message, hide=hide) or _FALLBACKS[code]
    return f"The upstream failed with status {said.status}."


def presentable(text: str, *, hide: Iterable[str | None] = ()) -> str:
    """Return a text of an upstream in one line of at most `MAX_TEXT` characters, harmless to show.

    Keys, the queries of URLs, payloads and whatever is in `hide` are taken out.
    """
    for secret in hide:
        if secret and len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "[…]")
    text = text[: 8 * MAX_TEXT]
    for pattern, instead in _UNSPEAKABLE:
        text = pattern.sub(instead, text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


# -- hints to wait -------------------------------------------------------------------------------


def retry_after(
    headers: Mapping[str, str], *, now: float, hint: float | None = None
) -> float | None:
    """Return the seconds to wait before the next try, or None.

    In this order: `retry-after-ms`, `Retry-After` in seconds or as a date, the body's `hint`, the
    `x-ratelimit-reset-*` of a limit that is used up. A hint above `MAX_HINT` is not believed.
    """
    milliseconds = headers.get("retry-after-ms", "")
    found = float(milliseconds) / 1000 if NUMBER.fullmatch(milliseconds) else None
    if found is None:
        found = _seconds_or_date(headers.get("Retry-After", ""), now)
    if found is None:
        found = hint
    if found is None:
        found = _reset(headers, now)
    return found if found is not None and 0 <= found <= MAX_HINT else None


def seconds(text: str) -> float | None:
    """Return a duration such as "34.4s", "6m0s", "20ms" in seconds; None for anything else."""
    match = _GO_DURATION.fullmatch(text)
    if match is None or not text:
        return None
    try:
        hours, minutes, whole, milli = (float(part or 0) for part in match.groups())
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + whole + milli / 1000


def _seconds_or_date(text: str, now: float) -> float | None:
    if NUMBER.fullmatch(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return the longest wait among the limits that are used up.

    A platform that names one limit only counts in epoch milliseconds (or seconds).
    """
    waits = []
    for limit in ("-requests", "-tokens", "-images", ""):
        if headers.get(f"x-ratelimit-remaining{limit}", "0" if not limit else None) != "0":
            continue
        reset = headers.get(f"x-ratelimit-reset{limit}", "")
        wait = _epoch(float(reset), now) if NUMBER.fullmatch(reset) else seconds(reset)
        if wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def _epoch(value: float, now: float) -> float:
    if value > 1e12:
        return max(0.0, value / 1000 - now)
    return max(0.0, value - now) if value > 1e9 else value


def _hint(outer: Mapping[str, Any]) -> float | None:
    error = at(outer, "error", kind=dict) or outer
    for place in (error, at(error, "availability", kind=dict), outer):
        if (found := number_at(place, "retry_after")) is not None:
            return found
    for detail in items_at(error, "details"):
        if (delay := at(detail, "retryDelay", kind=str)) is not None:
            return seconds(delay)
    return None


def _outermost(body: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(body, bytes):
        return body
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _message(outer: Mapping[str, Any]) -> str:
    """Return the text, from `error.message`, `error`, `detail`, `message` or `errors`."""
    for path in (("error", "message"), ("error",), ("detail",), ("message",), ("errors", 0)):
        if text := at(outer, *path, kind=str):
            return text
    details = items_at(outer, "detail")
    return "; ".join(filter(None, map(_fault, details[:3])))


def _fault(detail: Mapping[str, Any]) -> str:
    """Return one entry of a validation error: where, and what is wrong there."""
    where = ".".join(str(step) for step in at(detail, "loc", kind=list) or ())
    text = at(detail, "msg", kind=str) or ""
    return f"{where}: {text}" if where else text


def _word(value: object) -> str:
    return str(value)[:100] if isinstance(value, str | int) and not isinstance(value, bool) else ""
