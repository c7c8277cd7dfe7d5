"""An act: one thing that an operator did to tenants or keys, for whoever asks later who did it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who did what to whom, and when (Unix seconds).

    `by` is the id of the key, or `console`. `name` is such as `key.revoked`, `subject` the id of a
    tenant or a key, and `changes` holds what was set. No secret is ever in it.
    """

    at: float
    by: str
    name: str
    subject: str
    tenant: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Some acts, the newest first, each with its id; `next` is where the next page begins."""

    acts: tuple[tuple[str, Act], ...]
    next: str | None
