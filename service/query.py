"""Queries: each name known and there once, each value of its kind."""

import math
from enum import StrEnum
from typing import TypeVar

from service.context import Call
from storage.errors import Invalid


S = TypeVar("S", bound=StrEnum)


def query_of(call: Call, names: set[str]) -> dict[str, str]:
    """Return the query, or raise `Invalid` for a name that is unknown or there twice."""
    query = call.request.query
    for name in query:
        if name not in names:
            raise Invalid("Unknown parameter.", param=name[:100], code="unknown_parameter")
        if len(query.getall(name)) > 1:
            raise Invalid("The parameter is there twice.", param=name, code="invalid_value")
    return dict(query)


def number(query: dict[str, str], name: str) -> float | None:
    """Return a number that is not negative, or None when it is not there."""
    if name not in query:
        return None
    text = query[name]
    try:
        value = float(text) if text.isascii() and len(text) <= 32 else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e12:
        raise Invalid("It must be a number, 0 or more.", param=name, code="invalid_value")
    return value


def whole(query: dict[str, str], name: str, usual: int, allowed: range) -> int:
    """Return a whole number within a range."""
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) in allowed):
        raise Invalid(
            f"It must be a whole number from {allowed.start} to {allowed.stop - 1}.",
            param=name,
            code="invalid_value",
        )
    return int(text)


def one_of(query: dict[str, str], name: str, kind: type[S]) -> S | None:
    """Return one of the values of `kind`, or None when it is not there."""
    if name not in query:
        return None
    if query[name] not in {str(value) for value in kind}:
        raise Invalid(f"It must be one of {', '.join(kind)}.", param=name, code="invalid_value")
    return kind(query[name])
