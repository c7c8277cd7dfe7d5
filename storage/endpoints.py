"""Webhook endpoints: where they are kept, and what of them everybody needs to know.

All of a tenant's endpoints are in one hash, so whoever owes webhooks learns them in one read. They
are believed for a few seconds; a job says how many changes of them it has seen when it was added,
so an endpoint that was there before a job is told all of it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from storage import redis_keys, scripts
from storage.delivery import Delivery
from storage.endpoint import MOST_ENDPOINTS, Counts, EndpointId, Receivers, WebhookEndpoint
from storage.errors import Conflict, Error, Invalid
from storage.keyring import Keyring, OwnKeyring
from storage.line import Argument
from storage.outbox import owing as owing_of
from storage.redis_client import Commands


BELIEVED: Final = 5.0  # seconds
MOST_REMEMBERED: Final = 10_000
_GENERATION: Final = "generation"
_OWN: Final = "own"

_ENDPOINT: Final[TypeAdapter[WebhookEndpoint]] = TypeAdapter(WebhookEndpoint)
_OWN_KEYRING: Final[TypeAdapter[OwnKeyring]] = TypeAdapter(OwnKeyring)


def new_endpoint_id() -> EndpointId:
    """Return an id that cannot be guessed: 128 random bits."""
    return EndpointId("we_" + secrets.token_hex(16))


class KnownReceivers:
    """Every tenant's endpoints as this process knows them. May raise `errors.Unavailable`."""

    def __init__(self, commands: Commands, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._commands = commands
        self._clock = clock
        self._known: dict[str, tuple[Receivers, float]] = {}
        self._reading: dict[str, asyncio.Task[Receivers]] = {}

    async def of(self, tenant: str, *, since: int = 0) -> Receivers:
        """Return a tenant's endpoints with at least the changes up to the generation `since`."""
        known = self._known.get(tenant)
        if known is not None and self._clock() < known[1] and known[0].generation >= since:
            return known[0]
        # Many jobs of one tenant come together; one of them asks for all.
        reading = self._reading.get(tenant)
        if reading is None:
            reading = self._reading[tenant] = asyncio.create_task(self._read(tenant))
            reading.add_done_callback(partial(self._has_read, tenant))
        found = await asyncio.shield(reading)
        return found if found.generation >= since else await self._read(tenant)

    def forget(self, tenant: str) -> None:
        """Read a tenant's endpoints anew when they are next asked for."""
        self._known.pop(tenant, None)
        self._reading.pop(tenant, None)

    async def _read(self, tenant: str) -> Receivers:
        until = self._clock() + BELIEVED
        rows = await self._commands.execute("HGETALL", redis_keys.endpoints_of(tenant))
        found = _receivers(_mapping(rows))
        known = self._known.get(tenant)
        if known is None or known[0].generation <= found.generation:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[tenant] = (found, until)
        return found

    def _has_read(self, tenant: str, reading: "asyncio.Task[Receivers]") -> None:
        if self._reading.get(tenant) is reading:
            del self._reading[tenant]
        if not reading.cancelled():
            reading.exception()  # whoever waits gets it; nobody may wait any more


class Endpoints:
    """The records of all endpoints. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands, known: KnownReceivers | None = None) -> None:
        self._commands = commands
        self._known = known or KnownReceivers(commands)

    async def add(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """Keep a new endpoint; raises `Invalid` when the tenant has as many as it may."""
        written = await self._write(endpoint.tenant, endpoint.id, None, endpoint, changes=True)
        if written == -1:
            raise Invalid(
                f"A tenant has at most {MOST_ENDPOINTS} webhook endpoints.",
                code="too_many_endpoints",
            )
        return endpoint

    async def get(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
        """Return a tenant's endpoint; another tenant's is None, as is one that never was."""
        if not endpoint_id.startswith("we_"):
            return None
        document = await self._commands.execute(
            "HGET", redis_keys.endpoints_of(tenant), endpoint_id
        )
        return None if document is None else _read(document)

    async def all(self, tenant: str) -> tuple[WebhookEndpoint, ...]:
        """Return a tenant's endpoints, the oldest first."""
        rows = await self._commands.execute("HGETALL", redis_keys.endpoints_of(tenant))
        return _receivers(_mapping(rows)).endpoints

    async def swap(
        self,
        old: WebhookEndpoint,
        new: WebhookEndpoint,
        *,
        owing: Sequence[Delivery] = (),
    ) -> WebhookEndpoint | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first.

        The messages `owing` are queued in the same step.
        """
        written = replace(new, version=old.version + 1)
        done = await self._write(
            old.tenant,
            old.id,
            old.version,
            written,
            changes=_tells_otherwise(old, new),
            owing=owing,
        )
        return written if done == 1 else None

    async def remove(self, endpoint: WebhookEndpoint) -> bool:
        """Forget an endpoint and its keys; False when somebody else wrote it meanwhile."""
        done = await self._write(
            endpoint.tenant,
            endpoint.id,
            endpoint.version,
            None,
            changes=True,
            keyring=endpoint.keyring,
        )
        return done == 1

    async def forget_of(self, tenant: str) -> int:
        """Forget all of a tenant's endpoints with what signs for them; return how many."""
        endpoints, own = await self.all(tenant), await self.own(tenant)
        removed = [await self.remove(endpoint) for endpoint in endpoints]
        if all(removed):  # else one was written meanwhile, and goes the next time
            if own is not None:
                await self._commands.execute("DEL", redis_keys.public_keys(own.keyring.id))
            flows = redis_keys.flows(redis_keys.IMAGE_QUEUE)
            await self._commands.execute("HDEL", flows, redis_keys.generation_field(tenant))
            await self._commands.execute("DEL", redis_keys.endpoints_of(tenant))
            self._known.forget(tenant)
        return len(endpoints)

    async def counts(self, endpoint_id: str) -> Counts:
        """Return what became of an endpoint's messages."""
        rows = _mapping(
            await self._commands.execute("HGETALL", redis_keys.endpoint_counts(endpoint_id))
        )
        return Counts(
            delivered=int(rows.get("delivered", 0)),
            undelivered=int(rows.get("undelivered", 0)),
            failed_tries=int(rows.get("failed_tries", 0)),
        )

    # -- the keys of receivers that jobs name themselves -------------------------------------------

    async def own(self, tenant: str) -> OwnKeyring | None:
        """Return what signs the messages to a job's own `webhook_url`, if there is one yet."""
        document = await self._commands.execute("HGET", redis_keys.endpoints_of(tenant), _OWN)
        return None if document is None else _OWN_KEYRING.validate_json(document)

    async def own_or(self, tenant: str, make: Callable[[], Keyring]) -> OwnKeyring:
        """Return what signs the messages to a job's own `webhook_url`, made on first use."""
        if (known := await self.own(tenant)) is not None:
            return known
        fresh = OwnKeyring(tenant=tenant, keyring=make())
        if await self._write(tenant, _OWN, None, fresh, changes=False) == 1:
            return fresh
        known = await self.own(tenant)
        if known is None:
            raise Conflict("The secret is changing; try again.", code="busy")
        return known

    async def swap_own(self, old: OwnKeyring, new: OwnKeyring) -> OwnKeyring | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first."""
        written = replace(new, version=old.version + 1)
        done = await self._write(old.tenant, _OWN, old.version, written, changes=False)
        return written if done == 1 else None

    async def public_keys(self, keyring_id: str) -> list[dict[str, Any]] | None:
        """Return the public keys of a keyring as they were written, expired ones too, or None."""
        document = await self._commands.execute("GET", redis_keys.public_keys(keyring_id))
        if document is None:
            return None
        keys: list[dict[str, Any]] = orjson.loads(document)
        return keys

    # -- inside ------------------------------------------------------------------------------------

    async def _write(
        self,
        tenant: str,
        name: str,
        version: int | None,
        record: WebhookEndpoint | OwnKeyring | None,
        *,
        changes: bool,
        keyring: Keyring | None = None,
        owing: Sequence[Delivery] = (),
    ) -> int:
        ring = keyring if record is None else record.keyring
        owed = owing_of(tenant, owing)
        keys = [
            redis_keys.endpoints_of(tenant),
            redis_keys.public_keys("" if ring is None else ring.id),
            redis_keys.endpoint_counts(name),
            redis_keys.flows(redis_keys.IMAGE_QUEUE),
            *owed.keys,
        ]
        args: list[Argument] = [
            name,
            "" if version is None else version,
            "" if record is None else _document(record),
            MOST_ENDPOINTS if name != _OWN else MOST_ENDPOINTS + 1,
            "" if record is None else _public(record.keyring),
            redis_keys.generation_field(tenant) if changes else "",
            *owed.args,
        ]
        done: int = await self._commands.eval(scripts.ENDPOINT, keys, args)
        self._known.forget(tenant)
        return done


def _document(record: WebhookEndpoint | OwnKeyring) -> bytes:
    if isinstance(record, WebhookEndpoint):
        return _ENDPOINT.dump_json(record, exclude_none=True)
    return _OWN_KEYRING.dump_json(record, exclude_none=True)


def _read(document: bytes) -> WebhookEndpoint:
    try:
        return _ENDPOINT.validate_json(document)
    except ValidationError:  # its text repeats what it could not read
        message = "The record of a webhook endpoint cannot be read."
        raise Error(message, code="record_unreadable") from None


def _receivers(rows: dict[str, bytes]) -> Receivers:
    return Receivers.of(
        int(rows.get(_GENERATION, 0)),
        (_read(document) for name, document in rows.items() if name not in {_GENERATION, _OWN}),
    )


def _mapping(rows: Any) -> dict[str, bytes]:
    """Return a hash as a mapping: it comes as one from a client alone, as a list from a script."""
    pairs = rows.items() if isinstance(rows, dict) else zip(rows[::2], rows[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def _public(keyring: Keyring) -> bytes:
    """Return what everybody may know of a keyring, as it is kept for them."""
    keys = [{"id": key.id, "x": key.public, "expires_at": key.expires_at} for key in keyring.keys]
    return orjson.dumps(keys)


def _tells_otherwise(old: WebhookEndpoint, new: WebhookEndpoint) -> bool:
    """Say whether a change has a part in who is told of what, and where."""
    return (old.events, old.url, old.is_enabled) != (new.events, new.url, new.is_enabled)
