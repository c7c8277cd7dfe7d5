"""A webhook endpoint: a receiver that a tenant registered, and when it is given up.

Its rules are pure and take `now`. An endpoint that only fails for days is disabled by itself, as is
one that says it is gone; whoever owns it can enable it again, and what it missed meanwhile is kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NewType

from storage.keyring import Keyring


EndpointId = NewType("EndpointId", str)

MOST_ENDPOINTS: Final = 50
GIVE_UP_AFTER: Final = 5 * 86_400.0
FAILED_TO_GIVE_UP: Final = 3


class DisabledReason(StrEnum):
    """Why an endpoint is sent nothing: its owner said so, it answered 410, or it only failed."""

    OWNER = "owner"
    GONE = "gone"
    FAILING = "failing"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """One receiver of a tenant. Times are Unix seconds; `version` counts the writes of the record.

    `failing_since` is the first of the tries that have failed without one success between them, and
    `failed` names up to three messages that failed since then.
    """

    id: EndpointId
    tenant: str
    url: str = field(repr=False)
    keyring: Keyring
    created_at: float
    events: tuple[str, ...]
    description: str = ""
    include_prompt: bool = False
    disabled_at: float | None = None
    disabled_reason: DisabledReason | None = None
    failing_since: float | None = None
    failed: tuple[str, ...] = ()
    version: int = 0

    @property
    def is_enabled(self) -> bool:
        """Say whether messages are sent to it."""
        return self.disabled_at is None

    def disabled(self, reason: DisabledReason, now: float) -> "WebhookEndpoint":
        """Return the endpoint as one that is sent nothing; the first reason stays."""
        if not self.is_enabled:
            return self
        return replace(self, disabled_at=now, disabled_reason=reason)

    def enabled(self) -> "WebhookEndpoint":
        """Return the endpoint as one that is sent messages, with its failures forgotten."""
        return replace(self, disabled_at=None, disabled_reason=None, failing_since=None, failed=())

    def took(self) -> "WebhookEndpoint":
        """Return the endpoint after a message was taken."""
        if self.failing_since is None:
            return self
        return replace(self, failing_since=None, failed=())

    def refused(
        self, message_id: str, now: float, *, gone: bool = False, scale: float = 1.0
    ) -> "WebhookEndpoint":
        """Return the endpoint after a try that failed; it may be the one that disables it.

        `gone`: it answered 410. Otherwise it takes days of nothing but failures, of several
        messages; `scale` stretches the days. The very same endpoint comes back when nothing is new.
        """
        if gone:
            return self.disabled(DisabledReason.GONE, now)
        since = now if self.failing_since is None else self.failing_since
        failed = self.failed
        if message_id not in failed and len(failed) < FAILED_TO_GIVE_UP:
            failed = (*failed, message_id)
        over = now - since >= GIVE_UP_AFTER * scale and len(failed) >= FAILED_TO_GIVE_UP
        if not over and failed == self.failed and since == self.failing_since:
            return self
        after = replace(self, failing_since=since, failed=failed)
        return after.disabled(DisabledReason.FAILING, now) if over else after


@dataclass(frozen=True, slots=True)
class Receivers:
    """A tenant's endpoints as they were at one moment; `generation` counts what changed in them."""

    generation: int = 0
    endpoints: tuple[WebhookEndpoint, ...] = ()

    @classmethod
    def of(cls, generation: int, endpoints: Iterable[WebhookEndpoint]) -> "Receivers":
        """Return them, the oldest first."""
        return cls(generation, tuple(sorted(endpoints, key=lambda e: (e.created_at, e.id))))


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of an endpoint's messages, and how many tries failed."""

    delivered: int = 0
    undelivered: int = 0
    failed_tries: int = 0
