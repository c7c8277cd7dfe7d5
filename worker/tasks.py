"""Tasks: the doors through which the queues call us, ids in and outcomes out."""

from collections.abc import Mapping
from typing import Any

from storage.queue import DELIVER, FEED, RENDER, REPLAY, RUN_JOB
from worker.batching import Batching
from worker.executor import Executor
from worker.lease import Task
from worker.outcome import Outcome
from worker.rendering import Rendering
from worker.replayer import Replayer
from worker.webhooks import WebhookSender


def image_tasks(executor: Executor, rendering: Rendering, batching: Batching) -> dict[str, Task]:
    """Return what can be asked of the image queue."""

    async def run_job(ctx: Mapping[str, Any], job_id: str) -> Outcome:
        return await executor.run(job_id, ctx.get("record"))

    async def render(ctx: Mapping[str, Any], task_id: str) -> Outcome:
        return await rendering.run(task_id)

    async def feed(ctx: Mapping[str, Any], batch_id: str) -> Outcome:
        return await batching.run(batch_id)

    return {RUN_JOB: run_job, RENDER: render, FEED: feed}


def webhook_tasks(sender: WebhookSender, replayer: Replayer) -> dict[str, Task]:
    """Return what can be asked of the webhook queue."""

    async def deliver(ctx: Mapping[str, Any], delivery_id: str) -> Outcome:
        return await sender.run(delivery_id)

    async def replay(ctx: Mapping[str, Any], replay_id: str) -> Outcome:
        return await replayer.run(replay_id)

    return {DELIVER: deliver, REPLAY: replay}
