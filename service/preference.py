"""What a client prefers, and which of its tries belong together: `Prefer` and `Idempotency-Key`.

A preference that cannot be read is none (RFC 7240). A bad Idempotency-Key is refused, for its owner
relies on it.
"""

import re
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDictProxy

from storage.errors import Invalid


_WAIT: Final = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Preference:
    """`wait` is how many seconds the client would wait; None when it does not say."""

    respond_async: bool = False
    wait: float | None = None

    @property
    def is_now(self) -> bool:
        """Say whether the client would not wait at all."""
        return self.respond_async and self.wait is None

    @property
    def is_stated(self) -> bool:
        """Say whether the client prefers anything that is understood here."""
        return self.respond_async or self.wait is not None

    def applied(self, waited: float, *, ended: bool) -> str:
        """Return the Preference-Applied of an answer that came after a wait of up to `waited`."""
        parts = []
        if self.respond_async and not ended:
            parts.append("respond-async")
        if self.wait is not None:
            parts.append(f"wait={int(waited)}")
        return ", ".join(parts)


def preference(headers: CIMultiDictProxy[str]) -> Preference:
    """Read what the client prefers."""
    values = headers.getall("Prefer", ())
    if not values:
        return Preference()
    stated = [part.strip() for value in values for part in value[:500].split(",")]
    waits = [match[1] for part in stated if (match := _WAIT.fullmatch(part))]
    return Preference(
        respond_async=any(part.lower() == "respond-async" for part in stated),
        wait=float(waits[0]) if waits else None,
    )


def idempotency_key(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the client's key, quoted or bare; raises `Invalid` for one that is none."""
    values = headers.getall("Idempotency-Key", ())
    if not values:
        return None
    text = values[0].strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if len(values) > 1 or _KEY.fullmatch(text) is None:
        raise Invalid(
            "An Idempotency-Key has 1 to 255 printable characters.",
            param="Idempotency-Key",
            code="invalid_idempotency_key",
        )
    return text
