"""Tenants and their keys: where they are kept.

A change is written over the version that was read and over no other, so that of two operators
neither undoes what the other did.
"""

import asyncio
from collections.abc import Callable, Sequence

from pydantic import TypeAdapter

from storage import redis_keys, scripts
from storage.bill import day_of
from storage.errors import Conflict
from storage.line import Argument
from storage.redis_client import Commands
from storage.tenant import ApiKey, Tenant


_TENANT: TypeAdapter[Tenant] = TypeAdapter(Tenant)
_KEY: TypeAdapter[ApiKey] = TypeAdapter(ApiKey)
_TRIES = 20


class Tenants:
    """All tenants and API keys. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def add(self, tenant: Tenant) -> Tenant:
        """Keep a new tenant, or return the one that has its id already."""
        if await self._write(b"", tenant):
            return tenant
        return await self.get(tenant.id) or tenant

    async def get(self, tenant_id: str) -> Tenant | None:
        """Return a tenant by its id."""
        document = await self._commands.execute("HGET", redis_keys.TENANTS, tenant_id)
        return None if document is None else _TENANT.validate_json(document)

    async def change(self, tenant_id: str, change: Callable[[Tenant], Tenant]) -> Tenant | None:
        """Write what `change` makes of a tenant and return it; None when there is no such tenant.

        `change` may be asked more than once.
        """
        for _ in range(_TRIES):
            read = await self._commands.execute("HGET", redis_keys.TENANTS, tenant_id)
            if read is None:
                return None
            changed = change(_TENANT.validate_json(read))
            if await self._write(read, changed):
                return changed
        raise Conflict("The tenant is changing too fast; try again.", code="tenant_busy")

    async def all(self) -> list[Tenant]:
        """Return every tenant, by id."""
        documents = await self._commands.execute("HVALS", redis_keys.TENANTS)
        tenants = [_TENANT.validate_json(document) for document in documents]
        return sorted(tenants, key=lambda tenant: tenant.id)

    # -- removal -----------------------------------------------------------------------------------

    async def removed(self, most: int) -> list[Tenant]:
        """Return some of the tenants that are to go, by chance up to `most`."""
        ids = await self._commands.execute("SRANDMEMBER", redis_keys.REMOVALS, most)
        found = await asyncio.gather(*(self.get(tenant_id.decode()) for tenant_id in ids))
        over = [at for at, tenant in zip(ids, found, strict=True) if tenant is None]
        if over:
            await self._commands.execute("SREM", redis_keys.REMOVALS, *over)
        return [tenant for tenant in found if tenant is not None and tenant.is_removed]

    async def take_removal(self, tenant_id: str, seconds: float) -> bool:
        """Have a tenant's removal to oneself for some seconds; False when somebody else has it."""
        life = int(seconds * 1000)
        key = redis_keys.removal(tenant_id)
        return await self._commands.execute("SET", key, 1, "NX", "PX", life) is not None

    async def leave_removal(self, tenant_id: str) -> None:
        """Let others go on with a tenant's removal."""
        await self._commands.execute("DEL", redis_keys.removal(tenant_id))

    async def forget_keys(self, tenant_id: str) -> int:
        """Forget a tenant's keys, and return how many there were."""
        of_tenant = redis_keys.api_keys_of(tenant_id)
        ids = [key_id.decode() for key_id in await self._commands.execute("SMEMBERS", of_tenant)]
        for key_id in ids:
            await self._commands.execute("DEL", redis_keys.api_key(key_id))
            await self._commands.execute("HDEL", redis_keys.KEYS_USED, key_id)
            await self._commands.execute("SREM", of_tenant, key_id)
        return len(ids)

    async def forget(self, tenant_id: str, now: float) -> None:
        """Forget a tenant of which nothing is left; its name is free again."""
        days = [day_of(now - ago * 86_400) for ago in range(4)]  # older ones have run out
        spent = [redis_keys.committed(tenant_id, day) for day in days]
        await self._commands.execute("DEL", *redis_keys.seats(tenant_id), *spent)
        await self._commands.execute("HDEL", redis_keys.TENANTS, tenant_id)
        await self._commands.execute("SREM", redis_keys.REMOVALS, tenant_id)

    # -- keys --------------------------------------------------------------------------------------

    async def add_key(self, key: ApiKey) -> None:
        """Keep a new key."""
        await self._write_key(b"", key)

    async def key(self, key_id: str) -> ApiKey | None:
        """Return a key by its public id."""
        document = await self._commands.execute("GET", redis_keys.api_key(key_id))
        return None if document is None else read_key(document)

    async def change_key(self, key_id: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey | None:
        """Write what `change` makes of a key and return it; None when there is no such key.

        `change` may be asked more than once.
        """
        for _ in range(_TRIES):
            read = await self._commands.execute("GET", redis_keys.api_key(key_id))
            if read is None:
                return None
            changed = change(read_key(read))
            if await self._write_key(read, changed):
                return changed
        raise Conflict("The key is changing too fast; try again.", code="key_busy")

    async def keys_of(self, tenant_id: str) -> list[ApiKey]:
        """Return a tenant's keys, the oldest first."""
        ids = await self._commands.execute("SMEMBERS", redis_keys.api_keys_of(tenant_id))
        found = await asyncio.gather(*(self.key(key_id.decode()) for key_id in ids))
        return sorted((key for key in found if key is not None), key=lambda key: key.created_at)

    async def note_use(self, key_id: str, now: float) -> None:
        """Remember when a key was last used."""
        await self._commands.execute("HSET", redis_keys.KEYS_USED, key_id, now)

    async def last_uses(self, key_ids: Sequence[str]) -> list[float | None]:
        """Return when each key was last used, to about a minute; None for one that never was."""
        if not key_ids:
            return []
        moments = await self._commands.execute("HMGET", redis_keys.KEYS_USED, *key_ids)
        return [None if moment is None else float(moment) for moment in moments]

    async def _write(self, read: bytes, tenant: Tenant) -> bool:
        running = "" if tenant.max_running is None else tenant.max_running
        document = _TENANT.dump_json(tenant, exclude_none=True)
        keys = [redis_keys.TENANTS, redis_keys.seats(tenant.id)[0], redis_keys.REMOVALS]
        args: list[Argument] = [tenant.id, read, document, running, int(tenant.is_removed)]
        return bool(await self._commands.eval(scripts.TENANT, keys, args))

    async def _write_key(self, read: bytes, key: ApiKey) -> bool:
        document = key_document(key)
        keys = [redis_keys.api_key(key.id), redis_keys.api_keys_of(key.tenant)]
        return bool(await self._commands.eval(scripts.KEY, keys, [key.id, read, document]))


def key_document(key: ApiKey) -> bytes:
    """Return what is kept of a key."""
    return _KEY.dump_json(key, exclude_none=True)


def read_key(document: bytes) -> ApiKey:
    """Return the key of which this is kept."""
    return _KEY.validate_json(document)
