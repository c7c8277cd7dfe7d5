"""Workflows: graphs with named places, which an order fills.

A place is "{{name}}" anywhere in a text of the graph. A text that is nothing but a place becomes
the value itself, so that a seed stays a number; what is put in is not searched for places again.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from worker import wire


_PLACE: Final = re.compile(r"\{\{\s*([a-z0-9_]+)\s*\}\}")


class Unfilled(ValueError):
    """The graph has a place that nothing fills; the text names it."""


def read(source: object) -> dict[str, Any] | None:
    """Return the graph that an option holds, as a table or as JSON in a text, or None."""
    if isinstance(source, Mapping):
        return dict(source)
    if not isinstance(source, str):
        return None
    try:
        return wire.read_object(source.encode())
    except wire.Unreadable:
        return None


def filled(graph: Any, values: Mapping[str, Any]) -> Any:
    """Return a copy of the graph with its places filled; raises `Unfilled`."""
    match graph:
        case Mapping():
            return {name: filled(value, values) for name, value in graph.items()}
        case list() | tuple():
            return [filled(value, values) for value in graph]
        case str():
            return _said(graph, values)
    return graph


def _said(text: str, values: Mapping[str, Any]) -> Any:
    if (whole := _PLACE.fullmatch(text)) is not None:
        return _value(whole[1], values)
    return _PLACE.sub(lambda place: str(_value(place[1], values)), text)


def _value(name: str, values: Mapping[str, Any]) -> Any:
    if values.get(name) is None:
        raise Unfilled(f"The workflow needs a value for {name!r}.")
    return values[name]
