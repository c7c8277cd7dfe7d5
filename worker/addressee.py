"""Addressees: where a message goes now, what signs it, and what its endpoint is to think of that.

An endpoint is read anew for each try, so that nothing is sent to one that was disabled or deleted a
moment ago. One that fails for days, or says that it is gone, is disabled here, and the tenant's
endpoints are told of it in the same step.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import orjson
import structlog

from storage.address import without_query
from storage.delivery import ENDPOINT_DELETED, ENDPOINT_DISABLED, Delivery, Try, notices
from storage.endpoint import EndpointId, WebhookEndpoint
from storage.endpoints import Endpoints
from storage.keyring import Keyring, SigningKey
from storage.outbox import new_delivery_id
from storage.vault import Secrets, Unsealable, Vault
from storage.webhook_document import endpoint_document
from worker.outage import outlast


T = TypeVar("T")

_SWAPS: Final = 5

log = structlog.get_logger("worker.addressee")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """Where a message goes, and what signs it; `endpoint` is None where a job named a URL."""

    url: str
    secrets: tuple[Secrets, ...]
    endpoint: WebhookEndpoint | None = None

    @property
    def sees_prompts(self) -> bool:
        """Say whether the receiver is shown prompts."""
        return self.endpoint is not None and self.endpoint.include_prompt


class Addressees:
    """Finds who a message goes to. `clock` gives Unix seconds; `scale` stretches days of failure.

    An outage of Redis is outlasted for `patience` seconds.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        vault: Vault,
        *,
        clock: Callable[[], float],
        scale: float = 1.0,
        patience: float = 600.0,
    ) -> None:
        self._endpoints = endpoints
        self._vault = vault
        self._clock = clock
        self._scale = scale
        self._patience = patience

    async def of(self, delivery: Delivery) -> Addressee | str:
        """Return where the message goes, or why it goes nowhere."""
        now = self._clock()
        if delivery.endpoint_id is None:
            own = await self._through(lambda: self._endpoints.own_or(delivery.tenant, self._made))
            return Addressee(url=delivery.url, secrets=self._opened(own.keyring.live(now)))
        endpoint = await self._read(delivery.tenant, delivery.endpoint_id)
        if endpoint is None:
            return ENDPOINT_DELETED
        if not endpoint.is_enabled:
            return ENDPOINT_DISABLED
        secrets = self._opened(endpoint.keyring.live(now))
        return Addressee(url=endpoint.url, secrets=secrets, endpoint=endpoint)

    async def tell(self, endpoint: WebhookEndpoint, message_id: str, outcome: Try) -> None:
        """Put on the endpoint's record what a try says of it."""
        for _ in range(_SWAPS):
            after = self._judged(endpoint, message_id, outcome)
            if after is endpoint or await self._swapped(endpoint, after):
                return
            read = await self._read(endpoint.tenant, endpoint.id)
            if read is None:
                return
            endpoint = read

    def _judged(self, endpoint: WebhookEndpoint, message_id: str, outcome: Try) -> WebhookEndpoint:
        if outcome.is_success:
            return endpoint.took()
        return endpoint.refused(
            message_id, outcome.at, gone=outcome.status == 410, scale=self._scale
        )

    async def _swapped(self, before: WebhookEndpoint, after: WebhookEndpoint) -> bool:
        owing: tuple[Delivery, ...] = ()
        if before.is_enabled and not after.is_enabled:
            log.warning(
                "endpoint_disabled",
                endpoint=after.id,
                tenant=after.tenant,
                reason=after.disabled_reason,
            )
            now = self._clock()
            shown = replace(after, url=without_query(after.url))
            every = await self._through(lambda: self._endpoints.all(before.tenant))
            data = orjson.dumps(endpoint_document(shown, now)).decode()
            owing = notices(after, every, data, new_delivery_id, now)
        written = await self._through(lambda: self._endpoints.swap(before, after, owing=owing))
        return written is not None

    async def _read(self, tenant: str, endpoint_id: EndpointId) -> WebhookEndpoint | None:
        return await self._through(lambda: self._endpoints.get(tenant, endpoint_id))

    def _made(self) -> Keyring:
        keyring, _ = self._vault.new_keyring(self._clock())
        return keyring

    def _opened(self, keys: Sequence[SigningKey]) -> tuple[Secrets, ...]:
        """Return the secrets of the keys that can be opened."""
        opened = []
        for key in keys:
            try:
                opened.append(self._vault.open(key))
            except Unsealable as error:
                log.warning("secret_unsealable", key=key.id, reason=error.message)
        return tuple(opened)

    async def _through(self, act: Callable[[], Awaitable[T]]) -> T:
        return await outlast(act, patience=self._patience)
