"""What an upstream's bytes hold, read without trust: JSON, base64, data URLs.

Nothing here does I/O or knows a dialect. A wrong type anywhere in an answer reads as absent, and a
size is checked before it is paid for with memory.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import orjson
import pybase64


MAX_PICTURE: Final = 64 * 1024 * 1024
NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.=+-]+)*;base64,", re.IGNORECASE)

LARGE: Final = 65_536  # bytes of a string that is worth lifting out of its JSON
_VALUE: Final = re.compile(rb'\s*:\s*"')
_MARK_TEXT: Final = "lifted out, number "  # no base64 holds a space
_MARK: Final = _MARK_TEXT.encode()

T = TypeVar("T")


class Unreadable(ValueError):
    """The upstream's bytes are not what they should be; the text says what is wrong with them."""


# -- JSON ------------------------------------------------------------------------------------------


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`; raises `Unreadable` for anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unreadable("The upstream's answer is not JSON.") from None
    if not isinstance(value, dict):
        raise Unreadable("The upstream's answer is not a JSON object.")
    return value


def read_large(body: bytes, name: str) -> tuple[dict[str, Any], Sequence[memoryview]]:
    """Return the JSON object in `body`, and the long strings under `name` apart from it.

    `large_at` finds them. A picture in base64 is most of an answer, and a JSON parser would check
    and copy every byte of it before it is decoded.
    """
    key = b'"%s"' % name.encode()
    parts: list[bytes] = []
    lifted: list[memoryview] = []
    begin = 0
    at_key = body.find(key)
    while at_key >= 0:
        opening = _VALUE.match(body, at_key + len(key))
        start = opening.end() if opening is not None else 0
        end = body.find(b'"', start) if start else -1
        if end - start >= LARGE and body.find(b"\\", start, end) < 0:
            parts += [body[begin:start], b"%s%d" % (_MARK, len(lifted))]
            lifted.append(memoryview(body)[start:end])
            begin = end
        at_key = body.find(key, max(end, at_key + len(key)))
    rest = b"".join((*parts, body[begin:])) if parts else body
    return read_object(rest), lifted


def large_at(
    value: object, lifted: Sequence[memoryview], *path: str | int
) -> str | memoryview | None:
    """Return the string at `path`, wherever `read_large` has put it."""
    text = at(value, *path, kind=str)
    if text is None or not text.startswith(_MARK_TEXT):
        return text
    place = text[len(_MARK_TEXT) :]
    return lifted[int(place)] if place.isdecimal() and int(place) < len(lifted) else text


def at(value: object, *path: str | int, kind: type[T]) -> T | None:
    """Return what stands at `path` in foreign JSON if it is a `kind`, else None."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    if isinstance(value, bool) and kind is not bool:
        return None
    return value if isinstance(value, kind) else None


def number_at(value: object, *path: str | int) -> float | None:
    """Return the finite number at `path`, also when it is written as a string; else None."""
    found = at(value, *path, kind=object)
    if isinstance(found, str) and NUMBER.fullmatch(found):
        return float(found)
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return float(found)
    return None


def items_at(value: object, *path: str | int) -> list[dict[str, Any]]:
    """Return the objects in the list at `path`; whatever else is in it is left out."""
    return [item for item in at(value, *path, kind=list) or () if isinstance(item, dict)]


# -- pictures --------------------------------------------------------------------------------------


def decode(text: str | memoryview, *, limit: int = MAX_PICTURE) -> bytes:
    """Return the bytes that `text` is the base64 of.

    Raises `Unreadable` if there are more than `limit` of them, none, or if the base64 is cut off or
    holds anything foreign; its size is checked before it is decoded.
    """
    if len(text) // 4 * 3 > limit:
        raise Unreadable(f"The upstream's image is larger than {limit} bytes.")
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:
        raise Unreadable("The upstream's image is not valid base64.") from None
    if not data:
        raise Unreadable("The upstream's image is empty.")
    return data


def is_data_url(url: str) -> bool:
    """Say whether `url` carries its bytes in base64."""
    return _DATA_URL.match(url) is not None


def decode_data_url(url: str, *, limit: int = MAX_PICTURE) -> bytes:
    """Return the bytes of a data URL; raises `Unreadable` like `decode`."""
    match = _DATA_URL.match(url)
    if match is None:
        raise Unreadable("The upstream's image is neither base64 nor a URL.")
    return decode(url[match.end() :], limit=limit)


def encode(data: bytes) -> str:
    """Return `data` in base64."""
    return pybase64.b64encode_as_string(data)


def data_url(data: bytes, content_type: str) -> str:
    """Return `data` as a URL that carries it."""
    return f"data:{content_type};base64,{encode(data)}"
