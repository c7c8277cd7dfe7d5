"""Ways in which an upstream says no, named once; each dialect has its own envelope for them.

A fault comes from the prompt's tokens, from a rule of the side door, or from the fake's own checks
of a request; the dialect does not see the difference.
"""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from tests.upstream.tokens import Tokens


class Fault(StrEnum):
    """Why there is no picture; the value is what most upstreams answer."""

    INVALID = "400"
    UNAUTHORIZED = "401"
    QUOTA = "402"
    FORBIDDEN = "403"
    UNKNOWN_MODEL = "404"
    RATE_LIMITED = "429"
    BROKEN = "500"
    UNAVAILABLE = "502"
    OVERLOADED = "503"
    TIMED_OUT = "504"
    REFUSED_INPUT = "refused_input"
    REFUSED_OUTPUT = "refused_output"


FAULT_TOKENS: dict[str, Fault] = {
    "unauthorized": Fault.UNAUTHORIZED,
    "quota": Fault.QUOTA,
    **{fault.value: fault for fault in Fault if fault.value.isdigit()},
}


class Refused(Exception):
    """End the call with `fault`, in the words of its dialect."""

    def __init__(
        self,
        fault: Fault,
        message: str = "",
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message or fault.name)
        self.fault = fault
        self.message = message or f"The fake upstream says {fault.name.lower().replace('_', ' ')}."
        self.param = param
        self.code = code
        self.retry_after = retry_after


def fault_of(tokens: Tokens) -> Refused | None:
    """Return the refusal that `tokens` ask for before anything is drawn."""
    if tokens.text("refuse") == "input":
        return Refused(Fault.REFUSED_INPUT, "Your request was rejected by the safety system.")
    for name, fault in FAULT_TOKENS.items():
        if name in tokens:
            hint = tokens.text(name)
            return Refused(fault, retry_after=None if hint is None else float(hint))
    return None


@dataclass(slots=True, kw_only=True)
class Rule:
    """Tokens that matching calls get as if they stood in the prompt; None matches all."""

    tokens: Tokens
    dialect: str | None = None
    key: str | None = None
    model: str | None = None
    path: str | None = None
    share: float = 1.0
    times: int | None = None
    until: float | None = None
    hits: int = 0
    random: Random = field(default_factory=lambda: Random(0), repr=False)

    def matches(self, *, dialect: str, key: str | None, model: str | None, path: str) -> bool:
        """Tell whether a call is meant, and count it if so."""
        if self.until is not None and time.monotonic() > self.until:
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        meant = (
            self.dialect in (None, dialect)
            and self.key in (None, key)
            and self.model in (None, model)
            and (self.path is None or self.path in path)
            and self.random.random() < self.share
        )
        self.hits += meant
        return meant

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Rule":
        """Read a rule; each field is optional.

        `dialect`, `key`, `model`, `path` (a part of it): which calls are meant. `token`: what they
        shall do; `status` with `seconds` (the hint of a 429) is short for one. `share`: which part
        of them is hit, `times`: how many at most, `for`: how many seconds from now.
        """
        arguments: dict[str, str | None] = {}
        if "status" in body:
            seconds = body.get("seconds")
            arguments[str(body["status"])] = None if seconds is None else str(seconds)
        if "token" in body:
            name, _, argument = str(body["token"]).partition(":")
            arguments[name] = argument or None
        lasting = body.get("for")
        return cls(
            tokens=Tokens(arguments),
            dialect=body.get("dialect"),
            key=body.get("key"),
            model=body.get("model"),
            path=body.get("path"),
            share=float(body.get("share", 1.0)),
            times=body.get("times"),
            until=None if lasting is None else time.monotonic() + float(lasting),
        )
