"""Who asks: the bearer key of a request, checked against what is kept of it.

A key is looked up by its public id and its secret compared in constant time; for an id that
nobody has, a digest that nobody has is compared all the same. Whatever is wrong with a key, the
answer is the same. A secret that was right is believed for a few seconds, so that a revoked key
stops working within five; one that was wrong is looked up again each time, as an unknown id is, so
that time does not tell them apart.
"""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from multidict import CIMultiDictProxy

from service.strangers import Strangers
from storage.errors import Error, Forbidden, TooMany, Unavailable
from storage.tenant import ApiKey, PresentedKey, Scope, Tenant, presented
from storage.tenants import Tenants, key_document, read_key


BELIEVED: Final = 4.0  # seconds
NOTED: Final = 60.0  # seconds from one note of a key's use to the next
MOST_REMEMBERED: Final = 10_000
V = TypeVar("V")
_NOBODY: Final = key_document(ApiKey(id="", tenant="", digest="0" * 64, created_at=0.0))


class Unauthenticated(Error):
    """The request carries no key that may be used; it is never said why."""

    def __init__(self) -> None:
        super().__init__(
            "A valid API key is required: Authorization: Bearer dk_…", code="invalid_api_key"
        )


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey
    tenant: Tenant
    until: float


class Doorkeeper:
    """Knows who may come in. May raise `storage.errors.Unavailable` when Redis does not answer."""

    def __init__(self, tenants: Tenants, strangers: Strangers) -> None:
        self._tenants = tenants
        self._strangers = strangers
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def admit(
        self, headers: CIMultiDictProxy[str], scope: Scope, now: float, *, address: str = ""
    ) -> tuple[ApiKey, Tenant]:
        """Return the key and its tenant.

        Raises `Unauthenticated`; `TooMany` instead, once too many tries from the address have
        failed, unless the key is known to be good; and `Forbidden` when the key lacks the scope.
        """
        shown = _bearer(headers)
        known = None if shown is None else self._remembered(shown)
        if known is None or known.until <= now:
            if known is None and (wait := self._strangers.wait(address, now)):
                raise TooMany("Too many keys that do not open.", retry_after=wait)
            known = None if shown is None else await self._look_up(shown, now)
        if known is None or not known.key.is_live(now):
            self._strangers.failed(address, now)
            raise Unauthenticated
        if scope not in known.key.scopes:
            raise Forbidden(f"This key may not {scope}.", code="missing_scope")
        self._note(known.key, now)
        return known.key, known.tenant

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._notes)

    def _remembered(self, shown: PresentedKey) -> _Known | None:
        """Return what was found of a key before, however long ago, if its secret is right."""
        known = self._known.get(shown.id)
        return known if known is not None and known.key.admits(shown) else None

    async def _look_up(self, shown: PresentedKey, now: float) -> _Known | None:
        key = await self._tenants.key(shown.id) or read_key(_NOBODY)  # reading takes time, too
        if not key.admits(shown):
            return None
        tenant = await self._tenants.get(key.tenant)
        if tenant is None or tenant.is_removed:
            return None
        found = _Known(key, tenant, now + BELIEVED)
        _put(self._known, shown.id, found)
        return found

    def _note(self, key: ApiKey, now: float) -> None:
        """Have it noted that a key was used, once in a while and behind the caller's back."""
        if now - self._noted.get(key.id, -NOTED) < NOTED:
            return
        _put(self._noted, key.id, now)
        note = asyncio.create_task(self._write_note(key.id, now))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _write_note(self, key_id: str, now: float) -> None:
        with suppress(Unavailable):
            await self._tenants.note_use(key_id, now)


def _bearer(headers: CIMultiDictProxy[str]) -> PresentedKey | None:
    values = headers.getall("Authorization", ())
    if len(values) != 1:
        return None
    scheme, _, text = values[0].partition(" ")
    return presented(text.strip()) if scheme.lower() == "bearer" else None


def _put(kept: OrderedDict[str, V], name: str, value: V) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > MOST_REMEMBERED:
        kept.popitem(last=False)
