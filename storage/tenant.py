"""A tenant and its API keys: who owns jobs, and how a request proves it.

A key reads `dk_<environment>_<id>_<secret>_<check>`: a prefix that secret scanners can find, a
public id to look it up by, 256 random bits, and a checksum that refuses a mistyped or made-up key
without any look-up. Only a digest of the secret is kept, so the key is shown once, when it is made.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, replace
from enum import StrEnum

from storage.rate import Rate


_SHAPE = re.compile(r"dk_(live|test)_([0-9a-z]{12})_([0-9A-Za-z_-]{43})_([0-9a-f]{8})")
_LONGEST = 128


class Scope(StrEnum):
    """What a key may do."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Who owns jobs. `weight` is the share of the queue; limits that are None do not hold.

    `max_queued` bounds the jobs that have been taken in and have not ended, `max_running` those of
    them that workers may have at one time; the others stand in line. `requests_per_minute` counts
    requests that submit, and `spend_per_day` is in USD. One with a `removed_at` is let in no more,
    and what it has goes away step by step; its name is taken until all of it has gone.
    """

    id: str
    created_at: float
    weight: float = 1.0
    max_queued: int | None = None
    max_running: int | None = None
    requests_per_minute: int | None = None
    spend_per_day: float | None = None
    removed_at: float | None = None

    @property
    def is_removed(self) -> bool:
        """Say whether the tenant is on its way out."""
        return self.removed_at is not None

    def removed(self, now: float) -> "Tenant":
        """Return the tenant as one that is to go; the first removal counts."""
        return self if self.is_removed else replace(self, removed_at=now)

    @property
    def is_counted(self) -> bool:
        """Say whether the tenant's jobs have to be counted when they come and go."""
        return self.max_queued is not None or self.max_running is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key of a tenant; `digest` is the SHA-256 of its secret in hex. Times are Unix seconds.

    It may do what its scopes say and nothing else. `spend_per_day` is in USD, for the jobs that are
    submitted with it, beside what its tenant may spend.
    """

    id: str
    tenant: str
    digest: str
    created_at: float
    scopes: tuple[Scope, ...] = (Scope.SUBMIT, Scope.READ)
    environment: str = "live"
    name: str = ""
    requests_per_minute: int | None = None
    spend_per_day: float | None = None
    expires_at: float | None = None
    revoked_at: float | None = None

    def is_live(self, now: float) -> bool:
        """Say whether the key may be used."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def revoked(self, now: float) -> "ApiKey":
        """Return the key as no longer usable; the first revocation counts."""
        return self if self.revoked_at is not None else replace(self, revoked_at=now)

    def expiring(self, at: float) -> "ApiKey":
        """Return the key as usable until `at` and no longer; an earlier end stays."""
        return (
            self
            if self.expires_at is not None and self.expires_at <= at
            else replace(self, expires_at=at)
        )

    def admits(self, presented: "PresentedKey") -> bool:
        """Compare the secret in constant time."""
        return hmac.compare_digest(self.digest, presented.digest)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as a request carries it, well formed but not yet believed."""

    id: str
    digest: str


def rates_of(tenant: Tenant, key: ApiKey) -> tuple[Rate, ...]:
    """Return the rates at which a key may submit: its tenant's and its own, where there are any."""
    rates: list[Rate] = []
    if tenant.requests_per_minute is not None:
        rates.append(Rate("tenant", tenant.requests_per_minute))
    if key.requests_per_minute is not None:
        rates.append(Rate("key", key.requests_per_minute, key.id))
    return tuple(rates)


def new_key(
    tenant: str,
    now: float,
    *,
    name: str = "",
    scopes: tuple[Scope, ...] = (Scope.SUBMIT, Scope.READ),
    environment: str = "live",
    requests_per_minute: int | None = None,
    spend_per_day: float | None = None,
    expires_at: float | None = None,
) -> tuple[ApiKey, str]:
    """Return a new key of the tenant and its text, which is known only now."""
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    key_id = "".join(secrets.choice(alphabet) for _ in range(12))
    secret = secrets.token_urlsafe(32)
    body = f"dk_{environment}_{key_id}_{secret}"
    key = ApiKey(
        id=key_id,
        tenant=tenant,
        digest=_digest(secret),
        created_at=now,
        scopes=scopes,
        environment=environment,
        name=name,
        requests_per_minute=requests_per_minute,
        spend_per_day=spend_per_day,
        expires_at=expires_at,
    )
    return key, f"{body}_{_check(body)}"


def successor(key: ApiKey, now: float) -> tuple[ApiKey, str]:
    """Return a new key that may do what `key` may, and its text; it does not expire."""
    return new_key(
        key.tenant,
        now,
        name=key.name,
        scopes=key.scopes,
        environment=key.environment,
        requests_per_minute=key.requests_per_minute,
        spend_per_day=key.spend_per_day,
    )


def presented(text: str) -> PresentedKey | None:
    """Read a key's text; None when it cannot be one of ours, by its shape or its checksum."""
    match = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or _check(text.rpartition("_")[0]) != match[4]:
        return None
    return PresentedKey(match[2], _digest(match[3]))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
