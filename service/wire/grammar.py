"""JSON as it is accepted here: one object, shallow, of bounded size, no name said twice.

There is one parser. It takes neither NaN nor lone surrogates nor a byte order mark; what it lets
pass is counted here, since a small body can cost much.
"""

import json
from typing import Any, Final

import orjson

from storage.errors import Invalid


MAX_DEPTH: Final = 16
MAX_VALUES: Final = 10_000
# Colons, commas and brackets are what values cost; a prompt holds some too.
MAX_MARKS: Final = 100_000
_LOOK_FIRST: Final = 65_536


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that the body is; raises `Invalid` in words for its writer."""
    if len(body) > _LOOK_FIRST and sum(map(body.count, (b":", b",", b"[", b"{"))) > MAX_MARKS:
        raise Invalid("The JSON has too many values.", code="invalid_json")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"The body is not valid JSON (line {error.lineno}, column {error.colno})."
        raise Invalid(message, code="invalid_json") from None
    if not isinstance(value, dict):
        raise Invalid("The body must be a JSON object.", code="invalid_json")
    names = _count(value)
    # Every name has its colon, so only where colons are left over can a name be there twice.
    if body.count(b":") > names:
        _refuse_repeated(body)
    return value


def _count(value: dict[str, Any]) -> int:
    """Return how many names the object holds, at any depth."""
    names = values = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            values += len(item)
            if isinstance(item, dict):
                names += len(item)
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            else:
                below.extend(v for v in item if isinstance(v, dict | list))
        if values > MAX_VALUES:
            raise Invalid("The JSON has too many values.", code="invalid_json")
        if not below:
            return names
        level = below
    raise Invalid(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")


def _refuse_repeated(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Invalid("A name is there twice.", param=name[:100], code="invalid_json")
        seen.add(name)
    return found
