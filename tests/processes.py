"""Real processes for tests and benchmarks: Redis, the service, workers and the fake upstreams.

Everything listens on loopback, keeps its data in one folder and ends with the test. A process can
be killed and started again on what it left behind: the point of most tests that use this.
"""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from deploy import embedded, probe
from deploy.supervisor import die_with_parent


ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0

CATALOG = """\
default_model = "sketch"

[aliases]
"dall-e-2" = "sketch"

[[deployments]]
name = "sketch"
model = "sketch"
provider = "sketch"

[[deployments]]
name = "fake-openai"
model = "gpt-image-2"
provider = "openai"
base_url = "{upstream}/openai/v1"
api_key_env = "FAKE_OPENAI_KEY"
timeout = 30
price = {{ per_image = 0.05, as_of = "2026-11-21" }}
"""


@dataclass
class Program:
    """One process: how it is started, and the life it has now."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    process: Process | None = None

    @property
    def pid(self) -> int:
        """Return the id of the running process."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start the process; what it writes goes to its log file."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=dict(self.environment),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    async def end(self, number: signal.Signals = signal.SIGTERM, within: float = 20.0) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()

    async def kill(self) -> None:
        """End the process as a power cut would."""
        await self.end(signal.SIGKILL)

    def usage(self) -> tuple[float, int]:
        """Return the CPU seconds and resident bytes of the process and its children."""
        family = [psutil.Process(self.pid)]
        family += family[0].children(recursive=True)
        cpu, rss = 0.0, 0
        for member in family:
            with suppress(psutil.Error):
                times = member.cpu_times()
                cpu += times.user + times.system
                rss += member.memory_info().rss
        return cpu, rss


@dataclass
class Installation:
    """A whole Darkroom of real processes on one machine."""

    folder: Path
    environment: dict[str, str]
    redis: Program
    redis_url: str
    upstream: Program
    upstream_url: str
    service: Program
    url: str
    key: str = ""
    workers: list[Program] = field(default_factory=list)

    async def add_worker(self, **environment: str) -> Program:
        """Start one more worker; keyword arguments go to its environment."""
        name = f"worker-{len(self.workers)}"
        worker = self._python(name, "-m", "worker", **environment)
        await worker.start()
        self.workers.append(worker)
        return worker

    async def command(self, *arguments: str) -> str:
        """Run `python ARGUMENTS` to its end and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=self.environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, arguments
        return out.decode().strip()

    async def wait_ready(self) -> None:
        """Return when the service says that it is ready."""
        deadline = time.monotonic() + START_SECONDS
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/readyz", timeout=_SHORT) as answer:
                        if answer.status == 200:
                            return
                if not self.service.is_alive:
                    break
                await asyncio.sleep(0.05)
        raise AssertionError(self.service.log.read_text()[-3000:])

    def client(self) -> aiohttp.ClientSession:
        """Return a session that carries the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return aiohttp.ClientSession(self.url, headers=headers)

    def logs(self) -> str:
        """Return everything that any process wrote."""
        return "".join(log.read_text() for log in sorted(self.folder.glob("*.log")))

    def _python(self, name: str, *arguments: str, **environment: str) -> Program:
        return Program(
            name,
            (sys.executable, *arguments),
            {**self.environment, **environment},
            self.folder / f"{name}.log",
        )

    @property
    def programs(self) -> list[Program]:
        """Return all processes, those that stand on others first."""
        return [self.service, *self.workers, self.upstream, self.redis]


_SHORT = aiohttp.ClientTimeout(total=1)


@asynccontextmanager
async def installed(
    folder: Path,
    *,
    workers: int = 1,
    catalog: str = CATALOG,
    wire: Callable[["Installation"], Awaitable[None]] | None = None,
    **environment: str,
) -> AsyncIterator[Installation]:
    """Run a whole installation for a while; keyword arguments go to every environment.

    `wire` may change the environment of the service and the workers before anything runs, to put
    something between them and what they stand on.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 — nothing else runs yet
    ports = [probe.free_port("127.0.0.1") for _ in range(3)]
    kept = embedded.embed(folder / "redis", port=ports[0])
    upstream_url, url = f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[2]}"
    (folder / "catalog.toml").write_text(catalog.format(upstream=upstream_url), encoding="utf-8")
    every = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")},
        "DARKROOM_REDIS__URL": kept.url,
        "DARKROOM_OBJECTS__PATH": str(folder / "objects"),
        "DARKROOM_DATA": str(folder / "data"),
        "DARKROOM_CATALOG": str(folder / "catalog.toml"),
        "DARKROOM_SECRET": "a secret of thirty-two characters or more",
        "DARKROOM_PORT": str(ports[2]),
        "DARKROOM_PUBLIC_URL": url,
        "DARKROOM_ALLOW_NETWORKS": "127.0.0.0/8",
        "DARKROOM_WORKER__GRACE": "0.2",
        "FAKE_OPENAI_KEY": "sk-fake",
        **environment,
    }
    redis = Program("redis", kept.command, os.environ, folder / "redis.log")
    here = Installation(
        folder=folder,
        environment=every,
        redis=redis,
        redis_url=kept.url,
        upstream=redis,
        upstream_url=upstream_url,
        service=redis,
        url=url,
    )
    if wire is not None:
        await wire(here)
    here.upstream = here._python("upstream", "-m", "tests.upstream", "--port", str(ports[1]))
    here.service = here._python("service", "-m", "service")
    try:
        await redis.start()
        await kept.answers()
        await here.upstream.start()
        here.key = await here.command("-m", "service", "keys", "create", "--tenant", "acme")
        await here.service.start()
        for _ in range(workers):
            await here.add_worker()
        await here.wait_ready()
        yield here
    finally:
        for program in here.programs:
            if program.is_alive:
                await program.end(within=15)
