"""The worker process: its life, from the start to an orderly end.

Two queues are served side by side, images and webhooks, each with slots of its own, so that a
receiver that hangs never holds up an image. On SIGTERM nothing new is claimed, what runs gets its
time to end, and the rest is given back at once.
"""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog
from redis.exceptions import RedisError

from storage import redis_keys
from storage.errors import Unavailable
from storage.redis_client import Commands, stopped
from storage.stalls import watch_for_stalls
from worker.assembly import Parts, built
from worker.provider import Provider
from worker.providers import PROVIDERS
from worker.settings import Settings


ANNOUNCE_EVERY = 20.0

log = structlog.get_logger("worker")


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    providers: Mapping[str, type[Provider]] = PROVIDERS,
) -> None:
    """Work until SIGTERM or SIGINT; raises `Misconfigured` when that cannot begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    async with AsyncExitStack() as stack:
        building = asyncio.create_task(
            stack.enter_async_context(built(settings, environ, providers))
        )
        await asyncio.wait({stopping, building}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():  # while it waited for Redis
            await stopped(building)
            return
        await _work(building.result(), settings, stopping)


async def _work(parts: Parts, settings: Settings, stopping: "asyncio.Task[bool]") -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.catalogs.ask)
    workers = (parts.images, parts.webhooks)
    options = settings.worker
    running = [asyncio.create_task(worker.async_run()) for worker in workers]
    running += [
        asyncio.create_task(parts.reaper.run(options.reap_every, options.sweep_every)),
        asyncio.create_task(parts.remover.run(options.reap_every)),
        asyncio.create_task(parts.sender.mend()),
        asyncio.create_task(parts.permits.run(lambda: parts.router.gates)),
        asyncio.create_task(parts.catalogs.watch(parts.changed.set)),
        asyncio.create_task(parts.clock.keep_agreeing()),
        asyncio.create_task(watch_for_stalls(partial(_tell_stall, parts.commands))),
        asyncio.create_task(_announce(parts)),
        asyncio.create_task(_listen_for_cancels(parts)),
    ]
    log.info("worker_started", slots=options.slots, on=[d.name for d in parts.router.on])
    done, _ = await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*(worker.drain(options.drain) for worker in workers))
    await stopped(stopping, *running)
    log.info("worker_stopped")
    for task in done - {stopping}:
        task.result()  # a part that ended by itself is a fault: say which


async def _announce(parts: Parts) -> None:
    """Say again and again which deployments can be called; the service refuses the others.

    With a new catalog, or at the start, there may be new keys: those refused are tried again.
    """
    parts.changed.set()
    while True:
        with contextlib.suppress(Unavailable):
            if parts.changed.is_set():
                parts.changed.clear()
                await parts.permits.learn(parts.router.gates)
                await parts.permits.forgive(parts.router.gates)
            if names := [deployment.name for deployment in parts.router.serving]:
                now = int(parts.clock())
                places = [part for name in names for part in (now, name)]
                await parts.commands.execute("ZADD", redis_keys.DEPLOYMENTS_ON, *places)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANNOUNCE_EVERY):
                await parts.changed.wait()


async def _tell_stall(commands: Commands, seconds: float) -> None:
    log.warning("loop_stalled", seconds=round(seconds, 3))
    with contextlib.suppress(Unavailable):
        await commands.execute("INCR", redis_keys.STALLS)


async def _listen_for_cancels(parts: Parts) -> None:
    """Stop the task of a job as soon as it is cancelled; a lost word costs a renewal's time."""
    while True:
        pubsub = parts.commands.redis.pubsub()
        try:
            await pubsub.subscribe(redis_keys.CANCELS)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5.0)
                if message is not None:
                    parts.images.cancel_task(message["data"].decode())
        except (RedisError, OSError):
            await asyncio.sleep(0.5)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
