"""Tenants and their keys: where they are kept, and the secret that signs a tenant's webhooks."""

import asyncio
import base64
import secrets

from pydantic import TypeAdapter

from storage import redis_keys
from storage.redis_client import Commands
from storage.tenant import ApiKey, Tenant


_TENANT: TypeAdapter[Tenant] = TypeAdapter(Tenant)
_KEY: TypeAdapter[ApiKey] = TypeAdapter(ApiKey)


class Tenants:
    """All tenants and API keys. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def add(self, tenant: Tenant) -> Tenant:
        """Keep a new tenant, or return the one that has its id already."""
        document = _TENANT.dump_json(tenant, exclude_none=True)
        await self._commands.execute("HSETNX", redis_keys.TENANTS, tenant.id, document)
        kept = await self.get(tenant.id)
        return kept or tenant

    async def get(self, tenant_id: str) -> Tenant | None:
        """Return a tenant by its id."""
        document = await self._commands.execute("HGET", redis_keys.TENANTS, tenant_id)
        return None if document is None else _TENANT.validate_json(document)

    async def put(self, tenant: Tenant) -> None:
        """Write a tenant over what is kept of it."""
        document = _TENANT.dump_json(tenant, exclude_none=True)
        await self._commands.execute("HSET", redis_keys.TENANTS, tenant.id, document)

    async def all(self) -> list[Tenant]:
        """Return every tenant, by id."""
        documents = await self._commands.execute("HVALS", redis_keys.TENANTS)
        tenants = [_TENANT.validate_json(document) for document in documents]
        return sorted(tenants, key=lambda tenant: tenant.id)

    async def put_key(self, key: ApiKey) -> None:
        """Keep a key, new or changed."""
        document = _KEY.dump_json(key, exclude_none=True)
        await self._commands.execute("SET", redis_keys.api_key(key.id), document)
        await self._commands.execute("SADD", redis_keys.api_keys_of(key.tenant), key.id)

    async def key(self, key_id: str) -> ApiKey | None:
        """Return a key by its public id."""
        document = await self._commands.execute("GET", redis_keys.api_key(key_id))
        return None if document is None else _KEY.validate_json(document)

    async def keys_of(self, tenant_id: str) -> list[ApiKey]:
        """Return a tenant's keys, the oldest first."""
        ids = await self._commands.execute("SMEMBERS", redis_keys.api_keys_of(tenant_id))
        found = await asyncio.gather(*(self.key(key_id.decode()) for key_id in ids))
        return sorted((key for key in found if key is not None), key=lambda key: key.created_at)

    async def webhook_secret(self, tenant_id: str) -> str:
        """Return the secret that signs deliveries to a job's own webhook_url, made on first use.

        Its form is that of Standard Webhooks: `whsec_` and 32 random bytes in base64.
        """
        key = redis_keys.webhook_secret(tenant_id)
        known = await self._commands.execute("GET", key)
        if known is None:
            fresh = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            await self._commands.execute("SET", key, fresh, "NX")
            known = await self._commands.execute("GET", key)
        return str(known.decode())
