"""The registry: how operators make and change tenants and keys, and where it is written down.

The same acts serve the addresses under `/v1/admin` and the commands of the terminal. Each is
written into the audit log before it is done, with what was asked and without any secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from service.wire.admin import KeyChanges, NewKey, NewTenant, Rotation, TenantChanges
from storage.act import Act
from storage.acts import Acts
from storage.errors import Conflict, Invalid, Missing
from storage.jobs import SEATED_AT_ONCE, Jobs
from storage.tenant import ApiKey, Tenant, new_key, successor
from storage.tenants import Tenants


_MOST_SEATINGS: Final = 100


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, and when (Unix seconds): the id of a key and its tenant, or `console` and none."""

    by: str
    now: float
    tenant: str | None = None


class Registry:
    """Tenants and keys in the hands of operators. May raise `storage.errors.Unavailable`."""

    def __init__(self, tenants: Tenants, acts: Acts, jobs: Jobs) -> None:
        self._tenants = tenants
        self._acts = acts
        self._jobs = jobs

    async def tenant(self, tenant_id: str) -> Tenant:
        """Return a tenant; raises `Missing`."""
        tenant = await self._tenants.get(tenant_id)
        if tenant is None:
            raise _no_tenant()
        return tenant

    async def make_tenant(self, operator: Operator, asked: NewTenant) -> Tenant:
        """Make a tenant; raises `Conflict` when its name is taken."""
        if await self._tenants.get(asked.id) is not None:
            raise Conflict("There is a tenant of this name.", param="id", code="tenant_exists")
        limits = asked.model_dump(exclude_unset=True)
        tenant = Tenant(created_at=operator.now, **limits)
        await self._record(operator, "tenant.created", tenant.id, tenant.id, limits)
        return await self._tenants.add(tenant)

    async def change_tenant(
        self, operator: Operator, tenant_id: str, asked: TenantChanges
    ) -> Tenant:
        """Change what is named of a tenant's limits; raises `Missing`."""
        if (await self.tenant(tenant_id)).is_removed:
            raise _on_its_way_out()
        changes = asked.model_dump(exclude_unset=True)
        await self._record(operator, "tenant.changed", tenant_id, tenant_id, changes)
        changed = await self._tenants.change(tenant_id, lambda tenant: replace(tenant, **changes))
        if changed is None:
            raise _no_tenant()
        for _ in range(_MOST_SEATINGS):  # what is left is seated as other jobs end
            if await self._jobs.seat(tenant_id) < SEATED_AT_ONCE:
                break
        return changed

    async def remove_tenant(self, operator: Operator, tenant_id: str) -> Tenant:
        """Let a tenant in no more, and have workers take away all that it has.

        Saying it twice is harmless. Raises `Missing`, and `Conflict` for the operator's own tenant.
        """
        await self.tenant(tenant_id)
        if operator.tenant == tenant_id:
            raise Conflict("A key cannot remove its own tenant.", code="own_tenant")
        await self._record(operator, "tenant.removed", tenant_id, tenant_id, {})
        removed = await self._tenants.change(tenant_id, lambda one: one.removed(operator.now))
        if removed is None:
            raise _no_tenant()
        return removed

    async def key(self, key_id: str) -> ApiKey:
        """Return a key; raises `Missing`."""
        key = await self._tenants.key(key_id)
        if key is None:
            raise _no_key()
        return key

    async def make_key(self, operator: Operator, asked: NewKey) -> tuple[ApiKey, str]:
        """Make a key and return it with its text; raises `Invalid` when there is no such tenant."""
        tenant = await self._tenants.get(asked.tenant)
        if tenant is None:
            raise Invalid("There is no such tenant.", param="tenant", code="tenant_not_found")
        if tenant.is_removed:
            raise _on_its_way_out()
        expires_at = None if asked.expires_in is None else operator.now + asked.expires_in
        key, text = new_key(
            asked.tenant,
            operator.now,
            name=asked.name or "",
            scopes=asked.scopes,
            environment=asked.environment,
            requests_per_minute=asked.requests_per_minute,
            spend_per_day=asked.spend_per_day,
            expires_at=expires_at,
        )
        named = asked.model_dump(exclude_unset=True, exclude={"tenant"})
        await self._record(operator, "key.created", key.id, key.tenant, named)
        await self._tenants.add_key(key)
        return key, text

    async def change_key(self, operator: Operator, key_id: str, asked: KeyChanges) -> ApiKey:
        """Change what is named of a key; raises `Missing`."""
        key = await self.key(key_id)
        changes = asked.model_dump(exclude_unset=True)
        if "name" in changes:
            changes["name"] = changes["name"] or ""
        await self._record(operator, "key.changed", key_id, key.tenant, changes)
        changed = await self._tenants.change_key(key_id, lambda key: replace(key, **changes))
        return _there(changed)

    async def rotate_key(
        self, operator: Operator, key_id: str, asked: Rotation
    ) -> tuple[ApiKey, str, ApiKey]:
        """Make a key in the place of another, which works on for the overlap.

        Returns the new key, its text and the old key. Raises `Missing`, and `Conflict` when the old
        key does not work any more.
        """
        old = await self.key(key_id)
        if not old.is_live(operator.now):
            raise Conflict("The key does not work any more; make a new one.", code="key_not_live")
        key, text = successor(old, operator.now)
        changes = {"successor": key.id, "overlap": asked.overlap}
        await self._record(operator, "key.rotated", key_id, old.tenant, changes)
        await self._tenants.add_key(key)
        until = operator.now + asked.overlap
        expiring = await self._tenants.change_key(key_id, lambda key: key.expiring(until))
        return key, text, _there(expiring)

    async def revoke_key(self, operator: Operator, key_id: str) -> ApiKey:
        """Make a key stop working, everywhere within five seconds; raises `Missing`."""
        key = await self.key(key_id)
        await self._record(operator, "key.revoked", key_id, key.tenant, {})
        return _there(await self._tenants.change_key(key_id, lambda key: key.revoked(operator.now)))

    async def _record(
        self,
        operator: Operator,
        name: str,
        subject: str,
        tenant: str,
        changes: Mapping[str, Any],
    ) -> None:
        act = Act(
            at=operator.now,
            by=operator.by,
            name=name,
            subject=subject,
            tenant=tenant,
            changes=changes,
        )
        await self._acts.record(act)


def _no_tenant() -> Missing:
    return Missing("There is no such tenant.", code="tenant_not_found")


def _on_its_way_out() -> Conflict:
    return Conflict("The tenant is being removed.", code="tenant_removed")


def _no_key() -> Missing:
    return Missing("There is no such key.", code="key_not_found")


def _there(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise _no_key()
    return key
