"""Replays: where requests to send deliveries again are kept while a worker carries them out."""

import secrets
from typing import Final

from pydantic import TypeAdapter

from storage import outbox, queue, redis_keys, scripts
from storage.errors import TooMany
from storage.redis_client import Commands
from storage.replay import Replay, ReplayId, ReplayStatus


MOST_RUNNING: Final = 4

_REPLAY: Final[TypeAdapter[Replay]] = TypeAdapter(Replay)


def new_replay_id() -> ReplayId:
    """Return an id that cannot be guessed: 128 random bits."""
    return ReplayId("rpl_" + secrets.token_hex(16))


class Replays:
    """The records of all replays. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def add(self, replay: Replay) -> None:
        """Keep a new replay and queue it; raises `TooMany` when the tenant has several running."""
        added = await self._commands.eval(
            scripts.REPLAY,
            [
                redis_keys.replay(replay.id),
                redis_keys.replays_running(replay.tenant),
                redis_keys.payload(replay.id),
                redis_keys.WEBHOOK_QUEUE,
                redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
            ],
            [
                replay.id,
                _REPLAY.dump_json(replay, exclude_none=True),
                outbox.DELIVERY_LIFE_MS,
                queue.payload(queue.REPLAY, replay.id, replay.created_at),
                MOST_RUNNING,
            ],
        )
        if not added:
            message = f"At most {MOST_RUNNING} replays of a tenant run at one time."
            raise TooMany(message, retry_after=10.0, code="too_many_replays")

    async def find(self, replay_id: str) -> Replay | None:
        """Return a replay by its id alone, for those who serve all tenants."""
        document = await self._commands.execute("GET", redis_keys.replay(replay_id))
        return None if document is None else _REPLAY.validate_json(document)

    async def get(self, tenant: str, replay_id: str) -> Replay | None:
        """Return a tenant's replay; another tenant's is None, as is one that never was."""
        replay = await self.find(replay_id)
        return replay if replay is not None and replay.tenant == tenant else None

    async def put(self, replay: Replay) -> None:
        """Write how far a replay has come; only its worker does."""
        document = _REPLAY.dump_json(replay, exclude_none=True)
        key = redis_keys.replay(replay.id)
        await self._commands.execute("SET", key, document, "PX", outbox.DELIVERY_LIFE_MS)
        if replay.status is ReplayStatus.DONE:
            running = redis_keys.replays_running(replay.tenant)
            await self._commands.execute("SREM", running, replay.id)
