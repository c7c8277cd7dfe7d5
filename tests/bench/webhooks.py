"""Webhooks through real processes: a receiver that is away, one that hangs, the log, replays."""

from tests.bench import webhook_hang, webhook_log, webhook_outage, webhook_replay
from tests.bench.table import Row


async def run() -> list[Row]:
    """Measure everything about webhooks."""
    rows: list[Row] = []
    for part in (webhook_log, webhook_replay, webhook_hang, webhook_outage):
        rows += await part.run()
    return rows
