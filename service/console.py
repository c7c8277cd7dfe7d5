"""The operator's commands: tenants and their keys, from a terminal beside the service."""

import argparse
import math
import re
import sys
import time
from dataclasses import replace

from service.settings import Settings
from storage.clock import CellClock
from storage.errors import Invalid, Missing
from storage.redis_client import Commands, connect
from storage.tenant import Scope, Tenant, new_key
from storage.tenants import Tenants


_TENANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


async def run(settings: Settings, asked: argparse.Namespace) -> int:
    """Carry out one command and return the exit code; raises refusals of `storage.errors`."""
    commands = Commands(connect(settings.redis))
    try:
        clock = CellClock(commands)
        await clock.agree()
        await carry_out(Tenants(commands), asked, clock())
    finally:
        await commands.close()
    return 0


async def carry_out(tenants: Tenants, asked: argparse.Namespace, now: float) -> None:
    """Carry out one command on the tenants and print what came of it."""
    acts = {
        ("keys", "create"): _create_key,
        ("keys", "list"): _list_keys,
        ("keys", "revoke"): _revoke_key,
        ("tenants", "list"): _list_tenants,
        ("tenants", "set"): _set_tenant,
    }
    await acts[asked.command, asked.act](tenants, asked, now)


async def _create_key(tenants: Tenants, asked: argparse.Namespace, now: float) -> None:
    """Print nothing but the key, so that a script can take it."""
    tenant = await tenants.add(Tenant(id=_tenant_id(asked.tenant), created_at=now))
    scopes = tuple(Scope(scope) for scope in asked.scope or (Scope.SUBMIT, Scope.READ))
    key, text = new_key(tenant.id, now, name=asked.name, scopes=scopes)
    await tenants.put_key(key)
    _say(text)


async def _list_keys(tenants: Tenants, asked: argparse.Namespace, now: float) -> None:
    for key in await tenants.keys_of(asked.tenant):
        state = "live" if key.is_live(now) else "revoked"
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(key.created_at))
        _say("\t".join((key.id, state, made, ",".join(key.scopes), key.name)))


async def _revoke_key(tenants: Tenants, asked: argparse.Namespace, now: float) -> None:
    key = await tenants.key(asked.id)
    if key is None:
        raise Missing("There is no such key.")
    await tenants.put_key(key.revoked(now))
    _say(f"{key.id} stops working within five seconds")


async def _list_tenants(tenants: Tenants, asked: argparse.Namespace, now: float) -> None:
    for tenant in await tenants.all():
        _say(_line(tenant))


async def _set_tenant(tenants: Tenants, asked: argparse.Namespace, now: float) -> None:
    tenant = await tenants.add(Tenant(id=_tenant_id(asked.id), created_at=now))
    if asked.spend_per_day is not None:
        tenant = replace(tenant, spend_per_day=_dollars(asked.spend_per_day))
    if asked.weight is not None:
        if not 0 < asked.weight <= 1000:
            raise Invalid("A weight is above 0 and at most 1000.")
        tenant = replace(tenant, weight=asked.weight)
    await tenants.put(tenant)
    _say(_line(tenant))


def _line(tenant: Tenant) -> str:
    limit = "none" if tenant.spend_per_day is None else f"{tenant.spend_per_day:g} USD"
    return f"{tenant.id}\tweight {tenant.weight:g}\tspend per day {limit}"


def _dollars(text: str) -> float | None:
    if text == "none":
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < 1e9:
        raise Invalid("A limit is an amount in USD, or none.")
    return amount


def _tenant_id(text: str) -> str:
    if _TENANT_ID.fullmatch(text) is None:
        raise Invalid("A tenant's name has 1 to 63 letters, digits, - and _.")
    return text


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
