"""Where the service is put together: every part is made here, once, and handed to who needs it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from aiohttp import web
from pydantic_core import Url
from redis.exceptions import ResponseError

from service.admission import Admission
from service.auth import Doorkeeper
from service.availability import Availability
from service.context import Clock, Context
from service.entrance import add_rates
from service.errors import answer_errors
from service.intake import Intake
from service.limits import ROOM, Room
from service.logs import add_headers, log_requests
from service.metrics import Metrics
from service.progress import Progress
from service.reception import Reception
from service.registry import Registry
from service.routes import add_routes
from service.settings import Settings
from service.spool import folder_below, held
from service.strangers import Strangers
from storage.acts import Acts
from storage.address import Allowance
from storage.batches import Batches
from storage.bills import Bills
from storage.catalog import Catalog
from storage.catalogs import Catalogs
from storage.changes import Changes
from storage.clock import CellClock
from storage.crash import CrashPoint
from storage.deliveries import Deliveries
from storage.endpoints import Endpoints, KnownReceivers
from storage.errors import Error, Invalid, Unavailable
from storage.files import Files
from storage.jobs import Jobs
from storage.objects import Objects, open_objects
from storage.rates import Rates
from storage.redis_client import AnyRedis, Commands, connect
from storage.replays import Replays
from storage.stalls import watch_for_stalls
from storage.tenants import Tenants
from storage.vault import Vault


CONTEXT = web.AppKey("context", Context)
MIN_SECRET = 32


class Misconfigured(Exception):
    """The service cannot start as it is configured; the message is one line for an operator."""


def make_app(
    settings: Settings,
    *,
    redis: AnyRedis | None = None,
    objects: Objects | None = None,
    catalog: Catalog | None = None,
    clock: Clock | None = None,
) -> web.Application:
    """Return the service as an application; it dials nobody before it starts.

    What is given stands in for what the settings name. Starting it raises `Misconfigured`, or
    `storage.errors.Unavailable` when Redis or the objects do not answer.
    """
    commands = Commands(
        redis if redis is not None else connect(settings.redis),
        timeout=settings.redis.socket_timeout,
    )
    spool = folder_below(settings.data / "spool")
    context = _context(
        settings,
        commands,
        objects if objects is not None else _objects(settings),
        Catalogs(catalog) if catalog is not None else read_catalogs(settings),
        clock if clock is not None else CellClock(commands),
        spool,
    )
    app = web.Application(
        middlewares=[log_requests(context.metrics), answer_errors],
        client_max_size=settings.limits.request_bytes,
    )
    app[CONTEXT] = context
    app[ROOM] = Room(settings.limits.large_bodies)
    app.on_response_prepare.append(add_headers)
    app.on_response_prepare.append(add_rates)
    app.cleanup_ctx.append(_running)
    app.cleanup_ctx.append(partial(_spooling, spool))
    add_routes(app, context)
    return app


def read_catalogs(settings: Settings) -> Catalogs:
    """Return the catalogs of the file that the settings name; raises `Misconfigured`."""
    try:
        return Catalogs.read(settings.catalog)
    except Invalid as error:
        raise Misconfigured(error.message) from error


def _context(
    settings: Settings,
    commands: Commands,
    objects: Objects,
    catalogs: Catalogs,
    clock: Clock,
    spool: Path,
) -> Context:
    allowance = _networks(settings.allow_networks, "DARKROOM_ALLOW_NETWORKS")
    receivers = KnownReceivers(commands)
    jobs = Jobs(
        commands,
        settings.retention,
        receivers=receivers,
        clock=clock,
        crash=CrashPoint(settings.crash_at),
    )
    changes = Changes(commands.redis)
    tenants = Tenants(commands)
    bills = Bills(commands)
    acts = Acts(commands)
    availability = Availability(commands)
    progress = Progress(jobs, changes, keep_alive=settings.limits.keep_alive)
    intake = Intake(objects, spool, settings.limits, allowance)
    return Context(
        settings=settings,
        catalogs=catalogs,
        commands=commands,
        jobs=jobs,
        bills=bills,
        endpoints=Endpoints(commands, receivers),
        deliveries=Deliveries(commands),
        replays=Replays(commands),
        vault=Vault(settings.secret.get_secret_value().encode()),
        changes=changes,
        objects=objects,
        tenants=tenants,
        files=Files(commands),
        batches=Batches(commands, settings.retention, receivers=receivers, clock=clock),
        acts=acts,
        registry=Registry(tenants, acts, jobs),
        doorkeeper=Doorkeeper(tenants, Strangers(settings.limits.failed_keys_per_minute)),
        admission=Admission(jobs, Rates(commands), most=settings.limits.queued),
        proxies=_networks(settings.trusted_proxies, "DARKROOM_TRUSTED_PROXIES").networks,
        intake=intake,
        availability=availability,
        progress=progress,
        reception=Reception(
            catalogs=catalogs,
            jobs=jobs,
            progress=progress,
            intake=intake,
            availability=availability,
            bills=bills,
            allowance=allowance,
            limits=settings.limits,
        ),
        allowance=allowance,
        metrics=Metrics(
            commands, lambda: (deployment.name for deployment in catalogs.current.deployments)
        ),
        clock=clock,
    )


def _networks(text: str, variable: str) -> Allowance:
    try:
        return Allowance.parse(text)
    except ValueError as error:
        raise Misconfigured(f"{variable}: {error}.") from error


def _objects(settings: Settings) -> Objects:
    secret = settings.secret.get_secret_value()
    if len(secret) < MIN_SECRET:
        raise Misconfigured(
            f"DARKROOM_SECRET must have at least {MIN_SECRET} characters; "
            "make one with: openssl rand -hex 32"
        )
    try:
        Url(settings.public_url)
    except ValueError as error:
        raise Misconfigured("DARKROOM_PUBLIC_URL is not a URL.") from error
    return open_objects(settings.objects, secret=secret.encode(), public_url=settings.public_url)


async def _running(app: web.Application) -> AsyncIterator[None]:
    context = app[CONTEXT]
    watches: list[asyncio.Task[None]] = []
    try:
        await _check(context)
        watches.append(asyncio.create_task(context.catalogs.watch()))
        watches.append(asyncio.create_task(watch_for_stalls(context.metrics.stalled)))
        if isinstance(context.clock, CellClock):
            await context.clock.agree()
            watches.append(asyncio.create_task(context.clock.keep_agreeing()))
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await context.doorkeeper.close()
        await context.changes.close()
        await context.objects.close()
        await context.commands.close()


async def _spooling(folder: Path, app: web.Application) -> AsyncIterator[None]:
    with held(folder):
        yield


async def _check(context: Context) -> None:
    """Refuse to run on a Redis that forgets, or on objects that cannot be written."""
    settings = context.settings
    await context.commands.execute("PING")
    if not settings.redis.allow_eviction:
        policy = await _eviction_policy(context.commands)
        if policy not in {None, "noeviction"}:
            raise Misconfigured(
                f"Redis may evict records: its maxmemory-policy is {policy}, not noeviction "
                "(DARKROOM_REDIS__ALLOW_EVICTION=true starts all the same)."
            )
    try:
        await context.objects.check()
    except Unavailable:
        raise
    except Error as error:
        raise Misconfigured(error.message) from error


async def _eviction_policy(commands: Commands) -> str | None:
    """Return Redis's policy, or None where it is not told."""
    try:
        info = await commands.redis.info("memory")
    except ResponseError:
        return None
    policy = info.get("maxmemory_policy")
    return None if policy is None else str(policy)
