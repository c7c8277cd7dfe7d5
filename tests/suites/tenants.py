"""What the records of tenants and keys must show on every Redis; a subclass gives `commands`."""

from dataclasses import replace

import pytest

from storage.redis_client import Commands
from storage.tenant import Scope, Tenant, new_key, presented
from storage.tenants import Tenants


class TenantsSuite:
    @pytest.fixture
    def tenants(self, commands: Commands) -> Tenants:
        return Tenants(commands)

    async def test_a_tenant_is_found_as_it_was(self, tenants: Tenants) -> None:
        tenant = Tenant(id="acme", created_at=1.5, weight=2.5, max_queued=7, spend_per_day=9.5)
        assert await tenants.add(tenant) == tenant
        assert await tenants.get("acme") == tenant
        assert await tenants.get("globex") is None

    async def test_adding_a_tenant_again_changes_nothing(self, tenants: Tenants) -> None:
        first = await tenants.add(Tenant(id="acme", created_at=1.0, weight=2.0))
        assert await tenants.add(Tenant(id="acme", created_at=2.0)) == first
        assert await tenants.get("acme") == first

    async def test_a_tenant_can_be_changed(self, tenants: Tenants) -> None:
        tenant = await tenants.add(Tenant(id="acme", created_at=1.0))
        await tenants.change("acme", lambda tenant: replace(tenant, weight=3.0))
        assert (await tenants.get("acme")) == replace(tenant, weight=3.0)

    async def test_all_tenants_are_listed_by_id(self, tenants: Tenants) -> None:
        for name in ("c", "a", "b"):
            await tenants.add(Tenant(id=name, created_at=1.0))
        assert [tenant.id for tenant in await tenants.all()] == ["a", "b", "c"]

    async def test_a_key_is_found_by_its_public_id(self, tenants: Tenants) -> None:
        key, text = new_key("acme", 1.0, name="ci", scopes=(Scope.READ,))
        await tenants.add_key(key)
        shown = presented(text)
        assert shown is not None
        assert await tenants.key(shown.id) == key
        assert await tenants.key("nobody000000") is None

    async def test_a_revoked_key_is_kept_as_revoked(self, tenants: Tenants) -> None:
        key, _ = new_key("acme", 1.0)
        await tenants.add_key(key)
        await tenants.change_key(key.id, lambda key: key.revoked(5.0))
        kept = await tenants.key(key.id)
        assert kept is not None
        assert not kept.is_live(6.0)

    async def test_the_text_of_a_key_is_not_kept(
        self, tenants: Tenants, commands: Commands
    ) -> None:
        key, text = new_key("acme", 1.0)
        await tenants.add_key(key)
        secret = text.split("_", 3)[3].rpartition("_")[0]
        names = await commands.execute("KEYS", "*")
        kept = [name + await self.dump(commands, name) for name in names]
        assert kept
        assert not any(secret.encode() in one for one in kept)

    async def test_a_tenants_keys_are_listed_the_oldest_first(self, tenants: Tenants) -> None:
        keys = [new_key("acme", float(at))[0] for at in (3, 1, 2)]
        for key in keys:
            await tenants.add_key(key)
        await tenants.add_key(new_key("globex", 1.0)[0])
        assert [key.created_at for key in await tenants.keys_of("acme")] == [1.0, 2.0, 3.0]

    async def dump(self, commands: Commands, name: bytes) -> bytes:
        kind = await commands.execute("TYPE", name)
        if kind == b"string":
            return bytes(await commands.execute("GET", name))
        return b"".join(await commands.execute("SMEMBERS", name))

    async def test_a_removed_tenant_is_found_until_it_is_forgotten(self, tenants: Tenants) -> None:
        for name in ("acme", "globex"):
            await tenants.add(Tenant(id=name, created_at=1.0, max_running=3))
        await tenants.change("acme", lambda tenant: tenant.removed(5.0))
        again = await tenants.change("acme", lambda tenant: tenant.removed(9.0))
        assert again is not None
        assert again.removed_at == 5.0
        assert await tenants.removed(10) == [again]
        await tenants.forget("acme", 10.0)
        assert await tenants.get("acme") is None
        assert await tenants.removed(10) == []
        assert await tenants.add(Tenant(id="acme", created_at=20.0)) == Tenant(
            id="acme", created_at=20.0
        )

    async def test_one_at_a_time_has_a_removal(self, tenants: Tenants) -> None:
        assert await tenants.take_removal("acme", 60)
        assert not await tenants.take_removal("acme", 60)
        assert await tenants.take_removal("globex", 60)
        await tenants.leave_removal("acme")
        assert await tenants.take_removal("acme", 60)

    async def test_forgotten_keys_open_nothing(self, tenants: Tenants) -> None:
        key, _ = new_key("acme", 1.0)
        other, _ = new_key("globex", 1.0)
        for one in (key, other):
            await tenants.add_key(one)
            await tenants.note_use(one.id, 2.0)
        assert await tenants.forget_keys("acme") == 1
        assert (await tenants.key(key.id), await tenants.keys_of("acme")) == (None, [])
        assert await tenants.last_uses([key.id, other.id]) == [None, 2.0]
        assert await tenants.key(other.id) == other
