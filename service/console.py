"""The operator's commands: tenants and their keys, from a terminal beside the service."""

import argparse
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel

from service.commandline import UNLIMITED
from service.registry import Operator, Registry
from service.settings import Settings
from service.wire.admin import (
    KeyChanges,
    NewKey,
    NewTenant,
    Rotation,
    TenantChanges,
    act_document,
    key_document,
    tenant_document,
)
from service.wire.fields import read
from storage.acts import Acts
from storage.clock import CellClock
from storage.errors import Missing
from storage.jobs import Jobs
from storage.redis_client import Commands, connect
from storage.tenant import ApiKey, Tenant
from storage.tenants import Tenants


M = TypeVar("M", bound=BaseModel)

_MOST_ACTS: Final = 500


class Console:
    """Carries out one command after another; every one may raise refusals of `storage.errors`."""

    def __init__(self, tenants: Tenants, acts: Acts, registry: Registry) -> None:
        self._tenants = tenants
        self._acts = acts
        self._registry = registry

    async def carry_out(self, asked: argparse.Namespace, now: float) -> None:
        """Carry out a command and print what came of it."""
        acts: dict[tuple[str, str | None], Callable[..., Awaitable[None]]] = {
            ("keys", "create"): self._create_key,
            ("keys", "list"): self._list_keys,
            ("keys", "show"): self._show_key,
            ("keys", "set"): self._set_key,
            ("keys", "rotate"): self._rotate_key,
            ("keys", "revoke"): self._revoke_key,
            ("tenants", "list"): self._list_tenants,
            ("tenants", "show"): self._show_tenant,
            ("tenants", "set"): self._set_tenant,
            ("tenants", "remove"): self._remove_tenant,
            ("audit", None): self._audit,
        }
        operator = Operator(by="console", now=now)
        await acts[asked.command, getattr(asked, "act", None)](asked, operator)

    # -- keys --------------------------------------------------------------------------------------

    async def _create_key(self, asked: argparse.Namespace, operator: Operator) -> None:
        """Print nothing but the key, so that a script can take it."""
        wanted = _read(
            NewKey,
            asked,
            (
                *("tenant", "name", "scopes", "environment", "requests_per_minute"),
                *("spend_per_day", "expires_in"),
            ),
        )
        if await self._tenants.get(wanted.tenant) is None:
            await self._registry.make_tenant(operator, NewTenant(id=wanted.tenant))
        _, text = await self._registry.make_key(operator, wanted)
        _say(text)

    async def _list_keys(self, asked: argparse.Namespace, operator: Operator) -> None:
        keys = await self._tenants.keys_of(asked.tenant)
        uses = await self._tenants.last_uses([key.id for key in keys])
        for key, used in zip(keys, uses, strict=True):
            state = _state(key, operator.now)
            _say("\t".join((key.id, state, ",".join(key.scopes), _date(used), key.name)))

    async def _show_key(self, asked: argparse.Namespace, operator: Operator) -> None:
        await self._print_key(await self._registry.key(asked.id), operator)

    async def _set_key(self, asked: argparse.Namespace, operator: Operator) -> None:
        names = ("name", "scopes", "requests_per_minute", "spend_per_day")
        changes = _read(KeyChanges, asked, names)
        await self._print_key(
            await self._registry.change_key(operator, asked.id, changes), operator
        )

    async def _rotate_key(self, asked: argparse.Namespace, operator: Operator) -> None:
        """Print nothing but the new key."""
        rotation = _read(Rotation, asked, ("overlap",))
        _, text, _ = await self._registry.rotate_key(operator, asked.id, rotation)
        _say(text)

    async def _revoke_key(self, asked: argparse.Namespace, operator: Operator) -> None:
        key = await self._registry.revoke_key(operator, asked.id)
        _say(f"{key.id} stops working within five seconds")

    async def _print_key(self, key: ApiKey, operator: Operator) -> None:
        (used,) = await self._tenants.last_uses([key.id])
        _print(key_document(key, operator.now, last_used_at=used))

    # -- tenants -----------------------------------------------------------------------------------

    async def _list_tenants(self, asked: argparse.Namespace, operator: Operator) -> None:
        for tenant in await self._tenants.all():
            _say(_summary(tenant))

    async def _show_tenant(self, asked: argparse.Namespace, operator: Operator) -> None:
        _print(tenant_document(await self._registry.tenant(asked.id)))

    async def _set_tenant(self, asked: argparse.Namespace, operator: Operator) -> None:
        names = (
            *("weight", "max_queued", "max_running"),
            *("requests_per_minute", "spend_per_day"),
        )
        changes = _read(TenantChanges, asked, names)
        try:
            tenant = await self._registry.change_tenant(operator, asked.id, changes)
        except Missing:
            wanted = read(NewTenant, {"id": asked.id, **changes.model_dump(exclude_unset=True)})
            tenant = await self._registry.make_tenant(operator, wanted)
        _say(_summary(tenant))

    async def _remove_tenant(self, asked: argparse.Namespace, operator: Operator) -> None:
        tenant = await self._registry.remove_tenant(operator, asked.id)
        _say(f"{tenant.id} is let in no more within five seconds; workers take away what it has")

    async def _audit(self, asked: argparse.Namespace, operator: Operator) -> None:
        page = await self._acts.page(limit=_MOST_ACTS)
        for act_id, act in reversed(page.acts):
            _say(orjson.dumps(act_document(act_id, act)).decode())


async def run(settings: Settings, asked: argparse.Namespace) -> int:
    """Carry out one command and return the exit code; raises refusals of `storage.errors`."""
    commands = Commands(connect(settings.redis))
    tenants, acts = Tenants(commands), Acts(commands)
    registry = Registry(tenants, acts, Jobs(commands, settings.retention))
    try:
        clock = CellClock(commands)
        await clock.agree()
        await Console(tenants, acts, registry).carry_out(asked, clock())
    finally:
        await commands.close()
    return 0


def _read(model: type[M], asked: argparse.Namespace, names: tuple[str, ...]) -> M:
    """Return what was named on the command line."""
    named = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    return read(model, {name: None if v is UNLIMITED else v for name, v in named.items()})


def _state(key: ApiKey, now: float) -> str:
    if key.is_live(now):
        return "live"
    return "revoked" if key.revoked_at is not None else "expired"


def _date(moment: float | None) -> str:
    if moment is None:
        return "never used"
    return "used " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _summary(tenant: Tenant) -> str:
    document = tenant_document(tenant)
    limits = ("max_queued", "max_running", "requests_per_minute", "spend_per_day")
    named = [f"{name} {document[name]:g}" for name in limits if document[name] is not None]
    if tenant.is_removed:
        named.append("being removed")
    return "\t".join((tenant.id, f"weight {tenant.weight:g}", *named))


def _print(document: dict[str, Any]) -> None:
    _say(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
