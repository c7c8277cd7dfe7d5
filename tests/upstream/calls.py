"""The ledger: what was asked of the fake, in which order, how many at once, and what it cost."""

import hashlib
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from tests.upstream.tokens import Tokens


MAX_CALLS = 50_000
_SECRETS = frozenset({"authorization", "x-goog-api-key", "api-key", "x-key", "x-api-key", "cookie"})
_LONG = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of a multipart body."""

    name: str
    filename: str | None
    content_type: str | None
    size: int
    sha256: str
    data: bytes = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, and what became of it.

    `body` is the JSON or the fields of a form (a repeated field is a list); `parts` are its files.
    Once the call is over, long strings in it are shortened and the bytes of files are let go.
    """

    number: int
    dialect: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    key: str | None = field(repr=False)
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    parts: tuple[Part, ...] = field(default=(), repr=False)
    prompt: str | None = None
    model: str | None = None
    tokens: Tokens = field(default_factory=Tokens)
    started_at: float = field(default_factory=time.time)
    finished_at: float | None = None
    status: int | None = None
    cost: float = 0.0
    at_once: int = 1
    """How many calls of the same dialect were open when this one came, with this one."""

    def bill(self, usd: float) -> None:
        """Charge for what this call made."""
        self.cost += usd

    def as_json(self) -> dict[str, Any]:
        """Return what a test reads; the key is a fingerprint, long strings are shortened."""
        return {
            "number": self.number,
            "dialect": self.dialect,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "key": fingerprint(self.key),
            "body": _shortened(self.body),
            "parts": [
                {
                    "name": part.name,
                    "filename": part.filename,
                    "content_type": part.content_type,
                    "bytes": part.size,
                    "sha256": part.sha256,
                }
                for part in self.parts
            ],
            "prompt": self.prompt,
            "model": self.model,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "status": self.status,
            "cost": self.cost,
            "at_once": self.at_once,
        }


class Ledger:
    """All calls, oldest first; at most `MAX_CALLS` are kept, the sums know all."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._open: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._forgotten: dict[tuple[str, str | None], list[float]] = {}

    def open(self, dialect: str, request: web.Request, key: str | None) -> Call:
        """Write down that a call came."""
        self._open[dialect] += 1
        self._peak[dialect] = max(self._peak[dialect], self._open[dialect])
        if len(self._calls) == MAX_CALLS:
            oldest = self._calls.popleft()
            sums = self._forgotten.setdefault((oldest.dialect, oldest.key), [0, 0.0])
            sums[0] += 1
            sums[1] += oldest.cost
        call = Call(
            number=next(self._numbers),
            dialect=dialect,
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={str(k): v for k, v in request.headers.items() if k.lower() not in _SECRETS},
            key=key,
            at_once=self._open[dialect],
        )
        self._calls.append(call)
        return call

    def close(self, call: Call, status: int) -> None:
        """Write down how it ended."""
        self._open[call.dialect] -= 1
        call.status = status
        call.finished_at = time.time()
        call.body = _shortened(call.body)
        call.parts = tuple(replace(part, data=b"") for part in call.parts)

    def clear(self) -> None:
        """Forget all calls; those that are still open keep counting as open."""
        self._calls.clear()
        self._forgotten.clear()
        self._peak = Counter(self._open)

    def calls(self, **wanted: str) -> list[Call]:
        """Return the calls whose attributes are as `wanted`, oldest first."""
        return [c for c in self._calls if all(getattr(c, k) == v for k, v in wanted.items())]

    def peak(self, dialect: str) -> int:
        """Return how many calls of `dialect` were open at once, at most."""
        return self._peak[dialect]

    def bill(self) -> dict[str, Any]:
        """Return the sums in USD: of all, of each dialect, of each key (by its fingerprint)."""
        entries = [((call.dialect, call.key), 1, call.cost) for call in self._calls]
        entries += [(who, int(n), usd) for who, (n, usd) in self._forgotten.items()]
        return {
            **_sum((n, usd) for _, n, usd in entries),
            "dialects": {
                name: _sum((n, usd) for (dialect, _), n, usd in entries if dialect == name)
                for name in sorted({dialect for (dialect, _), _, _ in entries})
            },
            "keys": {
                fingerprint(key) or "none": _sum((n, u) for (_, k), n, u in entries if k == key)
                for key in {key for (_, key), _, _ in entries}
            },
            "peaks": dict(self._peak),
        }


def fingerprint(key: str | None) -> str | None:
    """Return what the ledger shows instead of a key."""
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()[:12]


def _sum(entries: Iterable[tuple[int, float]]) -> dict[str, Any]:
    listed = list(entries)
    return {
        "calls": sum(n for n, _ in listed),
        "total": round(math.fsum(usd for _, usd in listed), 9),
    }


def _shortened(value: Any) -> Any:
    match value:
        case str() if len(value) > _LONG:
            return f"{value[:64]}… ({len(value)} characters)"
        case Mapping():
            return {k: _shortened(v) for k, v in value.items()}
        case list():
            return [_shortened(v) for v in value]
        case _:
            return value
