"""Darkroom on one machine: a Redis, the service and the workers, under one supervisor.

Every setting that the user made stays as it is; what is missing is filled in for a machine where
nobody has an account anywhere.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

from deploy import embedded, probe
from deploy.folder import Folder, Held
from deploy.supervisor import REFUSED, Program, Supervisor, die_with_parent, say
from deploy.wishes import CATCHER_HOST, LOOPBACK, ROOT, Unable, Wishes


ORDER = ("service", "worker", "catcher", "redis")  # who is stopped first
# Seconds before killing; a worker has those for its running jobs on top.
PATIENCE = {"service": 30.0, "worker": 15.0, "catcher": 5.0, "redis": 15.0}
READY = 60.0  # seconds from the first process to an answer of /readyz
OF_A_CATCHER = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH")  # it needs nobody's keys but ours

GREETING = """\
Darkroom is ready at {url}
  key   {key}
  data  {data}
Make a picture:
  curl -sS {url}/v1/jobs -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
-H 'Prefer: wait=30' -d '{{"model": "sketch", "prompt": "a lighthouse at dusk"}}'
{catcher}Ctrl-C stops everything in order; jobs that wait are kept."""

OF_THE_CATCHER = """\
See webhooks arrive at {catcher}
  curl -sS {url}/v1/jobs -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
-d '{{"model": "sketch", "prompt": "a lighthouse at dusk", "webhook_url": "{catcher}/hook", \
"webhook_events": ["*"]}}'
"""


class Installation:
    """Everything of one data folder, from its Redis to its greeting."""

    def __init__(self, folder: Folder, wishes: Wishes, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._wishes = wishes
        self._port = wishes.port or probe.free_port(wishes.host)
        self._url = f"http://{probe.within_url(probe.reachable(wishes.host))}:{self._port}"
        self._environment = self._filled_in(environment)
        self._catcher: str | None = None
        self._ready = False
        self.supervisor = Supervisor(changed=self._tell_ready)

    async def start(self) -> None:
        """Start everything and tell the user; raises `Unable`, or `embedded.Unusable`."""
        if not probe.is_free(self._wishes.host, self._port):
            raise Unable(f"Port {self._port} is taken; set DARKROOM_PORT (0 takes any free one)")
        await self._start_redis()
        if self._folder.key is None:
            self._folder.key = await self._make_key()
        for name in ("service", *["worker"] * self._wishes.workers):
            self._keep(name, (sys.executable, "-m", name))
        await self._answers(self._url, "/readyz", "service")
        if await probe.status(self._url, "/v1/models", key=self._folder.key) == 401:
            say("the key in the data folder belongs to another Redis; making a new one")
            self._folder.key = await self._make_key()
        if self._wishes.catcher is not None:
            self._catcher = await self._start_catcher(self._wishes.catcher, self._folder.key)
        self._ready = True
        self._tell_ready()
        self._greet(self._folder.key)

    def _greet(self, key: str | None) -> None:
        catcher = ""
        if self._catcher is not None:
            catcher = OF_THE_CATCHER.format(catcher=self._catcher, url=self._url, key=key)
        greeting = GREETING.format(url=self._url, key=key, data=self._folder.path, catcher=catcher)
        print(greeting, flush=True)

    async def stop(self) -> None:
        """Stop everything in order, each within its patience."""
        self._ready = False
        self._folder.forget_ready()
        await self.supervisor.stop(*ORDER)

    def _filled_in(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the children: what the user set, and what is missing."""
        missing = {
            "DARKROOM_ALLOW_NETWORKS": LOOPBACK,
            "DARKROOM_CATALOG": str(ROOT / "deploy" / "darkroom.toml"),
            "DARKROOM_OBJECTS__KIND": "local",
            "DARKROOM_OBJECTS__PATH": str(self._folder.path / "objects"),
            "DARKROOM_PUBLIC_URL": self._url,
            "DARKROOM_SECRET": self._folder.secret(),
        }
        if "DARKROOM_ALLOW_NETWORKS" not in environment:
            say(
                f"this machine may be fetched from and called ({LOOPBACK}), as on a desk;"
                " DARKROOM_ALLOW_NETWORKS= forbids it"
            )
        if self._wishes.workers == 1 and not environment.get("DARKROOM_REDIS__URL"):
            missing["DARKROOM_WORKER__GRACE"] = "0"  # there is no other worker to wait for
        ours = {
            "DARKROOM_DATA": str(self._folder.path),
            "DARKROOM_HOST": self._wishes.host,
            "DARKROOM_PORT": str(self._port),
        }
        return {**missing, **environment, **ours}

    async def _start_redis(self) -> None:
        if self._environment.get("DARKROOM_REDIS__URL"):
            return
        port = probe.free_port("127.0.0.1")
        redis = embedded.embed(self._folder.path / "redis", port=port)
        self._environment["DARKROOM_REDIS__URL"] = redis.url
        self._keep("redis", redis.command)
        await redis.answers()

    async def _start_catcher(self, port: int, key: str | None) -> str:
        """Start a catcher that knows the key and nothing else of ours; return where it answers."""
        port = port or probe.free_port(CATCHER_HOST)
        if not probe.is_free(CATCHER_HOST, port):
            raise Unable(f"Port {port} is taken; set DARKROOM_CATCHER_PORT (0 takes any free one)")
        kept = {name: v for name, v in self._environment.items() if name in OF_A_CATCHER}
        self._keep(
            "catcher",
            (sys.executable, "-m", "deploy.catcher", "--port", str(port), "--url", self._url),
            {**kept, "DARKROOM_KEY": key or ""},
        )
        url = f"http://{CATCHER_HOST}:{port}"
        await self._answers(url, "/", "webhook catcher")
        return url

    async def _make_key(self) -> str:
        command = (sys.executable, "-m", "service", "keys", "create", "--tenant", "default")
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent(),
        )
        try:
            async with asyncio.timeout(READY):
                said, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if process.returncode == REFUSED:
            raise Unable("the service refuses to start; the reason stands above", REFUSED)
        if process.returncode != 0 or not said.strip():
            raise Unable("no key could be made; the reason stands above")
        return said.decode().strip()

    async def _answers(self, url: str, path: str, name: str) -> None:
        async def ready() -> bool:
            return await probe.status(url, path) == 200

        try:
            await probe.until(ready, within=READY)
        except TimeoutError:
            raise Unable(f"The {name} was not ready within {READY:.0f} s") from None

    def _keep(
        self, name: str, command: tuple[str, ...], environment: Mapping[str, str] | None = None
    ) -> None:
        self.supervisor.keep(
            Program(
                name=name,
                command=command,
                environment=self._environment if environment is None else environment,
                patience=PATIENCE[name] + (self._wishes.drain if name == "worker" else 0),
            )
        )

    def _tell_ready(self) -> None:
        if not self._ready:
            return
        self._folder.tell_ready(
            {
                "url": self._url,
                "key": self._folder.key,
                "service_pids": self.supervisor.pids("service"),
                "worker_pids": self.supervisor.pids("worker"),
                "redis_url": self._environment["DARKROOM_REDIS__URL"],
                **({} if self._catcher is None else {"catcher_url": self._catcher}),
            }
        )


async def run(installation: Installation) -> int:
    """Run until a signal, a refusal or a failed start; return the exit code.

    Raises what prevented the start, once everything has stopped again.
    """
    supervisor = installation.supervisor
    _listen(supervisor)

    def ended(launch: asyncio.Task[None]) -> None:
        if not launch.cancelled() and launch.exception() is not None:
            supervisor.finish(1)

    launch = asyncio.create_task(installation.start())
    launch.add_done_callback(ended)
    try:
        code = await supervisor.end
        launch.cancel()
        with suppress(asyncio.CancelledError):
            await launch
        return code
    finally:
        await installation.stop()


def _listen(supervisor: Supervisor) -> None:
    """Stop on a signal; a second Ctrl-C does not wait for anybody."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if supervisor.end.done():
            say("stopping at once")
            supervisor.kill()
        supervisor.finish(0)

    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, supervisor.finish, 0)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: outlive the terminal
        loop.add_signal_handler(signal.SIGHUP, supervisor.finish, 0)


def main() -> int:
    """Run from the environment of the process; return its exit code."""
    return asyncio.run(_main())


async def _main() -> int:
    try:
        wishes = Wishes.read(os.environ)
        installation = Installation(Folder(wishes.data), wishes, os.environ)
        return await run(installation)
    except (Unable, Held, embedded.Unusable, OSError) as error:  # TimeoutError is an OSError
        say(str(error))
        return getattr(error, "code", 1)
