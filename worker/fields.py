"""The fields of a request: what an order asks, and what the operator and the caller add to it."""

from collections.abc import Collection, Mapping
from typing import Any


def fields(
    asked: Mapping[str, Any], *further: Mapping[str, Any], reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Return `asked` without what is None, and what of `further` does not replace it.

    The later of `further` win over the earlier; names in `reserved` are only ever asked.
    """
    said = {name: value for name, value in asked.items() if value is not None}
    extra = {name: value for more in further for name, value in more.items()}
    return {name: value for name, value in extra.items() if name not in reserved} | said
