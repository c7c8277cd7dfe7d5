"""Who asks: the bearer key of a request, checked against what is kept of it.

A key is looked up by its public id and its secret compared in constant time; for an id that
nobody has, a digest that nobody has is compared all the same. Whatever is wrong with a key, the
answer is the same. What was found is believed for a few seconds, so that a revoked key stops
working within five.
"""

from dataclasses import dataclass

from multidict import CIMultiDictProxy

from storage.errors import Error, Forbidden
from storage.tenant import ApiKey, PresentedKey, Scope, Tenant, presented
from storage.tenants import Tenants


BELIEVED = 4.0  # seconds
MOST_REMEMBERED = 10_000
_NOBODY = ApiKey(id="", tenant="", digest="0" * 64, created_at=0.0)


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

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._known: dict[str, _Known] = {}

    async def admit(
        self, headers: CIMultiDictProxy[str], scope: Scope, now: float
    ) -> tuple[ApiKey, Tenant]:
        """Return the key and its tenant; raises `Unauthenticated`, or `Forbidden` for the scope."""
        shown = _bearer(headers)
        if shown is None:
            raise Unauthenticated
        known = self._known.get(shown.id)
        if known is None or known.until <= now:
            known = await self._look_up(shown, now)
        key = known.key if known is not None else _NOBODY
        if not key.admits(shown) or known is None or not key.is_live(now):
            raise Unauthenticated
        if scope not in key.scopes and Scope.ADMIN not in key.scopes:
            raise Forbidden(f"This key may not {scope}.", code="missing_scope")
        return key, known.tenant

    async def _look_up(self, shown: PresentedKey, now: float) -> _Known | None:
        self._known.pop(shown.id, None)
        key = await self._tenants.key(shown.id)
        if key is None:
            return None
        tenant = await self._tenants.get(key.tenant)
        if tenant is None:
            return None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        found = self._known[shown.id] = _Known(key, tenant, now + BELIEVED)
        return found


def _bearer(headers: CIMultiDictProxy[str]) -> PresentedKey | None:
    values = headers.getall("Authorization", ())
    if len(values) != 1:
        return None
    scheme, _, text = values[0].partition(" ")
    return presented(text.strip()) if scheme.lower() == "bearer" else None
