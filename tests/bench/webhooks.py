"""Webhooks through real processes: a receiver that is away, one that hangs, the log, replays."""

from tests.bench import webhook_log, webhook_replay
from tests.bench.table import Row


async def run() -> list[Row]:
    """Measure everything about webhooks."""
    return [*await webhook_log.run(), *await webhook_replay.run()]
