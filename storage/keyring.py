"""A keyring: the keys that sign what one receiver is sent, the newest first.

Each key is a pair of secrets that are made and replaced together: one for HMAC, which the receiver
knows too, and one for Ed25519, of which it knows the public half. Here they are sealed; only
`storage.vault` opens them. A key that was replaced goes on signing for a while, so that a receiver
can change over when it likes.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from storage.errors import Conflict


MOST_KEYS: Final = 5
LONGEST_OVERLAP: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One key: `public` is its Ed25519 half in base64. It signs until `expires_at`."""

    id: str
    sealed: str = field(repr=False)
    public: str
    created_at: float
    expires_at: float | None = None

    def is_live(self, now: float) -> bool:
        """Say whether the key still signs."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys of one receiver; `id` is what its public halves are found by."""

    id: str
    keys: tuple[SigningKey, ...]

    @property
    def current(self) -> SigningKey:
        """Return the key that a receiver should know by now."""
        return self.keys[0]

    def live(self, now: float) -> tuple[SigningKey, ...]:
        """Return the keys that sign, the newest first."""
        return tuple(key for key in self.keys if key.is_live(now))

    def rotated(self, fresh: SigningKey, now: float, *, overlap: float) -> "Keyring":
        """Return the keyring with a new key; the others go on signing for `overlap` more seconds.

        Raises `Conflict` when too many keys would sign at one time.
        """
        left = tuple(
            replace(key, expires_at=min(key.expires_at or now + overlap, now + overlap))
            for key in self.live(now)
            if overlap > 0
        )
        if len(left) >= MOST_KEYS:
            raise Conflict(
                f"At most {MOST_KEYS} keys sign at one time; rotate with a shorter overlap.",
                code="too_many_keys",
            )
        return replace(self, keys=(fresh, *left))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKeyring:
    """What signs the messages to receivers that a tenant's jobs name themselves."""

    tenant: str
    keyring: Keyring
    version: int = 0
