"""The worker process: built once, from its settings, and ended in order.

Two queues are served side by side, images and webhooks, each with slots of its own, so that a
receiver that hangs never holds up an image. On SIGTERM nothing new is claimed, what runs gets its
time to end, and the rest is given back at once.
"""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from storage import redis_keys
from storage.address import Allowance
from storage.batches import Batches
from storage.bills import Bills
from storage.catalog import Deployment
from storage.catalogs import Catalogs
from storage.clock import CellClock
from storage.crash import CrashPoint
from storage.deliveries import Deliveries, LaneLimits
from storage.endpoints import Endpoints
from storage.errors import Error, Invalid, Unavailable
from storage.facts import Limits
from storage.files import Files
from storage.jobs import Jobs
from storage.objects import Objects, open_objects
from storage.queue import Queue
from storage.redis_client import Commands, connect, stopped
from storage.replays import Replays
from storage.stalls import watch_for_stalls
from storage.tenants import Tenants
from storage.traffic import Traffic
from storage.vault import Vault
from worker.addressee import Addressees
from worker.batching import Batching
from worker.executor import Executor, Terms
from worker.imaging import Imaging
from worker.inputs import Inputs
from worker.lease import LeaseWorker, Pace
from worker.permits import Permits
from worker.provider import Provider, Tools
from worker.providers import PROVIDERS
from worker.reaper import Reaper
from worker.remover import Remover
from worker.rendering import Rendering
from worker.renditions import Renditions
from worker.replayer import Replayer
from worker.results import Results
from worker.router import Router
from worker.settings import Settings
from worker.tasks import image_tasks, webhook_tasks
from worker.web import Web
from worker.webhooks import DeliveryTerms, WebhookSender


ANNOUNCE_EVERY = 20.0
_BLOCKING_TIMEOUT = 8.0
_FETCHES = 100  # of images by URL at one time
_MADE_FORMATS = ("png", "jpeg", "webp", "gif")

log = structlog.get_logger("worker")


class Misconfigured(Exception):
    """The worker cannot start as it is told to; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that runs in one worker process."""

    images: LeaseWorker
    webhooks: LeaseWorker
    reaper: Reaper
    remover: Remover
    sender: WebhookSender
    catalogs: Catalogs
    router: Router
    permits: Permits
    commands: Commands
    clock: CellClock
    changed: asyncio.Event = field(default_factory=asyncio.Event)


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


@asynccontextmanager
async def built(
    settings: Settings,
    environ: Mapping[str, str],
    providers: Mapping[str, type[Provider]] = PROVIDERS,
) -> AsyncIterator[Parts]:
    """Build all parts, refuse what is unsafe, and close everything at the end."""
    options = settings.worker
    async with AsyncExitStack() as stack:
        redis = connect(settings.redis, socket_timeout=_BLOCKING_TIMEOUT)
        commands = Commands(redis, timeout=settings.redis.socket_timeout)
        stack.push_async_callback(commands.close)
        clock = CellClock(commands)
        await _meet_redis(commands, clock, may_evict=settings.redis.allow_eviction)
        objects = await _opened_objects(settings)
        stack.push_async_callback(objects.close)
        catalogs = _catalogs(settings)
        traffic = Traffic(commands, lease=options.lease)
        permits = Permits(traffic, heartbeat=options.heartbeat, patience=options.patience)
        router = Router(catalogs, environ, permits=permits, calls=options.calls)
        web = await stack.enter_async_context(
            Web(
                allowance=Allowance.parse(settings.allow_networks),
                foreign_connections=_FETCHES + settings.worker.webhook_slots,
            )
        )
        limits = Limits(
            pixels=settings.limits.pixels,
            side=settings.limits.side,
            bytes=settings.limits.image_bytes,
        )
        imaging = Imaging(children=settings.worker.image_children or None, limits=limits)
        stack.push_async_callback(imaging.close)
        tools = Tools(web=web, imaging=imaging)

        def provider(deployment: Deployment) -> Provider:
            key = environ.get(deployment.api_key_env) if deployment.api_key_env else None
            return providers[deployment.provider](deployment, key, tools)

        workshop = _Workshop(catalogs, router, permits, _kept(provider))
        yield _parts(settings, redis, commands, clock, objects, workshop, web, imaging, limits)


@dataclass(frozen=True, slots=True)
class _Workshop:
    """What stands between a job and its upstream."""

    catalogs: Catalogs
    router: Router
    permits: Permits
    providers: Callable[[Deployment], Provider]


def _kept(make: Callable[[Deployment], Provider]) -> Callable[[Deployment], Provider]:
    """Make the provider of a deployment once, and anew when the deployment has changed."""
    made: dict[str, tuple[Deployment, Provider]] = {}

    def provider(deployment: Deployment) -> Provider:
        known = made.get(deployment.name)
        if known is None or (known[0] is not deployment and known[0] != deployment):
            known = made[deployment.name] = deployment, make(deployment)
        return known[1]

    return provider


def _parts(  # noqa: PLR0913, PLR0917 — this is where everything meets
    settings: Settings,
    redis: ArqRedis,
    commands: Commands,
    clock: CellClock,
    objects: Objects,
    workshop: _Workshop,
    web: Web,
    imaging: Imaging,
    limits: Limits,
) -> Parts:
    options = settings.worker
    crash = CrashPoint(settings.crash_at)
    jobs = Jobs(commands, settings.retention, clock=clock)

    executor = Executor(
        jobs,
        Inputs(objects, web, imaging, limits=limits, timeout=options.input_timeout),
        Results(
            objects,
            imaging,
            limits=_made(limits),
            patience=options.patience,
            label=options.label,
            words=options.watermark_text,
            clock=clock,
        ),
        workshop.router,
        workshop.providers,
        clock=clock,
        terms=Terms(attempts=options.attempts, patience=options.patience),
        crash=crash,
    )
    rendering = Rendering(
        jobs, objects, Renditions(objects, imaging, options.patience), label=options.label
    )
    batches = Batches(commands, settings.retention, clock=clock)
    batching = Batching(
        batches=batches,
        jobs=jobs,
        bills=Bills(commands),
        tenants=Tenants(commands),
        files=Files(commands),
        objects=objects,
        public_url=settings.public_url,
        life=settings.retention.days * 86_400,
        clock=clock,
    )
    sender, replayer = _webhooks(settings, commands, clock, jobs, objects, web, crash)
    token = secrets.token_hex(12)

    def queue(name: str) -> Queue:
        return Queue(commands, name, token=token, lease=options.lease)

    def lease_worker(
        name: str, tasks: Mapping[str, object], slots: int, reserve: int = 0
    ) -> LeaseWorker:
        return LeaseWorker(
            tasks,  # type: ignore[arg-type]  # both maps hold tasks, see worker.tasks
            queue(name),
            redis,
            slots=slots,
            reserve=reserve,
            name=token,
            pace=Pace(heartbeat=options.heartbeat, grace=options.grace, patience=options.patience),
        )

    images = lease_worker(
        redis_keys.IMAGE_QUEUE,
        image_tasks(executor, rendering, batching),
        options.slots,
        options.reserve,
    )
    workshop.permits.take_ahead = images.take_ahead
    return Parts(
        images=images,
        webhooks=lease_worker(
            redis_keys.WEBHOOK_QUEUE, webhook_tasks(sender, replayer), options.webhook_slots
        ),
        reaper=Reaper(
            jobs,
            objects,
            clock=clock,
            life=settings.retention.days * 86_400,
            orphan_life=settings.retention.orphan_hours * 3600,
            batches=batches,
            files=Files(commands),
        ),
        remover=Remover(
            tenants=Tenants(commands),
            endpoints=Endpoints(commands),
            batches=batches,
            jobs=jobs,
            files=Files(commands),
            deliveries=Deliveries(commands),
            bills=Bills(commands),
            objects=objects,
            clock=clock,
        ),
        sender=sender,
        catalogs=workshop.catalogs,
        router=workshop.router,
        permits=workshop.permits,
        commands=commands,
        clock=clock,
    )


def _webhooks(
    settings: Settings,
    commands: Commands,
    clock: CellClock,
    jobs: Jobs,
    objects: Objects,
    web: Web,
    crash: CrashPoint,
) -> tuple[WebhookSender, Replayer]:
    options = settings.worker
    deliveries = Deliveries(
        commands,
        limits=LaneLimits(
            receiver=options.webhooks_per_receiver, tenant=options.webhooks_per_tenant
        ),
    )
    endpoints = Endpoints(commands)
    sender = WebhookSender(
        deliveries,
        Addressees(
            endpoints,
            Vault(settings.secret.get_secret_value().encode()),
            clock=clock,
            scale=options.webhook_scale,
            patience=options.patience,
        ),
        jobs,
        objects,
        web,
        clock=clock,
        terms=DeliveryTerms(
            timeout=options.webhook_timeout,
            scale=options.webhook_scale,
            patience=options.patience,
            public_url=settings.public_url,
        ),
        crash=crash,
    )
    replayer = Replayer(
        Replays(commands), deliveries, endpoints, clock=clock, patience=options.patience
    )
    return sender, replayer


def _made(given: Limits) -> Limits:
    """Return what an upstream may send: larger pictures than a client may, and GIF."""
    return Limits(
        pixels=max(given.pixels, 67_108_864),
        side=max(given.side, 16_384),
        bytes=max(given.bytes, 104_857_600),
        frames=1000,
        formats=_MADE_FORMATS,
    )


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


def _catalogs(settings: Settings) -> Catalogs:
    try:
        return Catalogs.read(settings.catalog)
    except Invalid as error:
        raise Misconfigured(error.message) from error


async def _opened_objects(settings: Settings) -> Objects:
    if len(settings.secret.get_secret_value()) < 32:
        raise Misconfigured("DARKROOM_SECRET must be set to at least 32 characters.")
    objects = open_objects(
        settings.objects,
        secret=settings.secret.get_secret_value().encode(),
        public_url=settings.public_url,
    )
    try:
        await objects.check()
    except Unavailable:
        log.warning("objects_away")  # they may come back; results wait for them
    except Error as error:
        raise Misconfigured(f"The objects cannot be used: {error.message}") from error
    return objects


async def _meet_redis(commands: Commands, clock: CellClock, *, may_evict: bool) -> None:
    """Wait for Redis and agree on the time; refuse one that may throw records away."""
    while True:
        try:
            memory = await commands.execute("INFO", "memory")
            kept = await commands.execute("INFO", "persistence")
            await clock.agree()
            break
        except Unavailable:
            log.warning("redis_away")
            await asyncio.sleep(1)
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and not may_evict:
        raise Misconfigured(
            f"Redis may evict records (maxmemory-policy {policy}); set it to noeviction."
        )
    if kept.get("aof_enabled") == 0:
        log.warning("redis_may_forget", remedy="appendonly yes, appendfsync always")
