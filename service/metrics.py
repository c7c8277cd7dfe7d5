"""What the service measures, for Prometheus: requests by route, and the queues.

Labels are routes, methods, statuses and the names of the catalog: nothing that a client can make up
becomes a label.
"""

from collections.abc import Callable, Iterable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from storage import redis_keys
from storage.gate import GateState
from storage.queue import enqueued_at
from storage.redis_client import Commands
from storage.traffic import Traffic


_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10, 30, 60, 120, 300, 600)
_QUEUES: Final = {"images": redis_keys.IMAGE_QUEUE, "webhooks": redis_keys.WEBHOOK_QUEUE}
BELIEVED: Final = 1.0  # seconds
_LOOKED_AT: Final = 100

log = structlog.get_logger()


class Metrics:
    """One registry of one process."""

    def __init__(
        self, commands: Commands, deployments: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._commands = commands
        self._traffic = Traffic(commands, lease=1.0)
        self._deployments = deployments
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "darkroom_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "darkroom_http_request_seconds",
            "Seconds to answer, waits included",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._depth = Gauge(
            "darkroom_queue_tasks", "Tasks by state", ["queue", "state"], registry=self.registry
        )
        self._age = Gauge(
            "darkroom_queue_oldest_seconds",
            "Seconds that the oldest of the tasks which are next has been in the queue",
            ["queue"],
            registry=self.registry,
        )
        self._state = Gauge(
            "darkroom_deployment_state",
            "1 for how a deployment's gate stands: open, paused, tripped or switched_off",
            ["deployment", "state"],
            registry=self.registry,
        )
        self._crowd = Gauge(
            "darkroom_deployment_jobs",
            "Calls under way where their number is limited, and jobs that wait for the deployment",
            ["deployment", "what"],
            registry=self.registry,
        )
        self._stalls = Counter(
            "darkroom_loop_stalls",
            "Seconds and more in which this process answered nobody",
            registry=self.registry,
        )
        self._worker_stalls = Gauge(
            "darkroom_worker_loop_stalls",
            "The same of all workers, since the beginning",
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._until = 0.0

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        series = self._series.get((method, route, status))
        if series is None:
            series = self._series[method, route, status] = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
        series[0].inc()
        series[1].observe(seconds)

    async def stalled(self, seconds: float) -> None:
        """Count and tell one stall of this process's event loop."""
        log.warning("loop_stalled", seconds=round(seconds, 3))
        self._stalls.inc()

    async def page(self, now: float) -> bytes:
        """Return all figures in Prometheus's text form."""
        if self._until <= now:
            await self._look_at_queues(now)
            await self._look_at_gates()
            self._until = now + BELIEVED
        return generate_latest(self.registry)

    async def _look_at_queues(self, now: float) -> None:
        stalls = await self._commands.execute("GET", redis_keys.STALLS)
        self._worker_stalls.set(int(stalls or 0))
        for name, queue in _QUEUES.items():
            waiting = await self._commands.execute(
                "ZCOUNT", queue, "-inf", f"({redis_keys.FIRST_MOMENT}"
            )
            late = await self._commands.execute(
                "ZCOUNT", queue, redis_keys.FIRST_MOMENT, int(now * 1000)
            )
            every = await self._commands.execute("ZCARD", queue)
            self._depth.labels(name, "waiting").set(waiting + late)
            self._depth.labels(name, "held").set(every - waiting - late)
            self._age.labels(name).set(await self._age_of_oldest(queue, now))
        standing = await self._commands.execute("GET", redis_keys.STANDING)
        self._depth.labels("images", "standing").set(int(standing or 0))

    async def _look_at_gates(self) -> None:
        self._state.clear()
        self._crowd.clear()
        crowds = await self._traffic.crowds(tuple(self._deployments()))
        for name, crowd in crowds.items():
            for state in GateState:
                self._state.labels(name, state).set(crowd.condition.state is state)
            self._crowd.labels(name, "calls").set(crowd.calls)
            self._crowd.labels(name, "waiting").set(crowd.waiting)

    async def _age_of_oldest(self, queue: str, now: float) -> float:
        """Return for how many seconds the oldest of the tasks that are next has been in the queue.

        The order is fair and not by age, but whoever has waited for long is near the head.
        """
        due = await self._commands.execute(
            "ZRANGEBYSCORE", queue, "-inf", int(now * 1000), "LIMIT", 0, _LOOKED_AT
        )
        if not due:
            return 0.0
        payloads = await self._commands.execute(
            "MGET", *(redis_keys.payload(task_id.decode()) for task_id in due)
        )
        moments = [moment for data in payloads if (moment := enqueued_at(data)) is not None]
        return max(0.0, now - min(moments, default=now))
