"""The keyholder: learns through the API what the tenant's messages verify with.

Keys are read when something does not verify with those that are known, so a rotation needs no
restart; and seldom, so that whoever sends rubbish here makes nobody else work.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from deploy.catcher.verdict import Keys


SELDOM: Final = 1.0  # seconds between two readings
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


class Unknown(Exception):
    """The keys cannot be read; the message says why."""


class Keyholder:
    """Reads the keys of the tenant that `key` belongs to from the Darkroom at `url`."""

    def __init__(self, url: str, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._clock = clock
        self._known: Keys | None = None
        self._read_at = -SELDOM
        self._reading = asyncio.Lock()

    async def keys(self, *, other_than: Keys | None = None) -> Keys:
        """Return the keys, others than `other_than` if there may be; raises `Unknown`."""
        async with self._reading:
            is_new = self._known is not None and self._known is not other_than
            if not is_new and self._clock() - self._read_at >= SELDOM:
                self._read_at = self._clock()
                self._known = await self._read()
            if self._known is None:
                raise Unknown("The keys could not be read a moment ago.")
            return self._known

    async def _read(self) -> Keys:
        async with aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT) as session:
            try:
                secret = await self._get(session, "/v1/webhook-secret")
                jwks = await self._get(session, "/.well-known/jwks.json")
                return Keys(secret["secret"], {key["kid"]: _raw(key["x"]) for key in jwks["keys"]})
            except (aiohttp.ClientError, TimeoutError):
                raise Unknown("Darkroom does not answer.") from None
            except (KeyError, TypeError, ValueError):
                raise Unknown("Darkroom's keys cannot be understood.") from None

    async def _get(self, session: aiohttp.ClientSession, path: str) -> Any:
        async with session.get(self._url + path, allow_redirects=False) as answer:
            if answer.status != 200:
                raise Unknown(f"Darkroom answered {answer.status} to {path}.")
            return await answer.json()


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
