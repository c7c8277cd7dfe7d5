"""Install the S3 server once, start it for a while, and take it away again."""

import fcntl
import hashlib
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final


HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parent.parent / ".cache" / "s3"
REQUIREMENTS: Final = HERE / "requirements.txt"
REGION: Final = "us-east-1"
INSTALL_PATIENCE: Final = 300.0  # seconds
START_PATIENCE: Final = 60.0
STOP_PATIENCE: Final = 10.0
FORGOTTEN: Final = 86_400.0  # seconds after which a run's folder belongs to nobody


class CannotServeError(Exception):
    """The S3 server cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server: the same store without TLS and with, trusted through `ca`."""

    url: str
    tls_url: str
    ca: Path
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    pid: int

    @property
    def environment(self) -> Mapping[str, str]:
        """What boto3's own chain reads, and nothing of the machine's owner."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CA_BUNDLE": str(self.ca),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def running() -> Iterator[S3Server]:
    """Run a server with an empty store until the block ends; install it first if need be.

    Raises `CannotServeError` when it cannot be installed or started on this machine.
    """
    python = _installed()
    folder = _run_folder()
    access_key, secret_key = "tests:darkroom", secrets.token_hex(20)
    command = [str(python), str(HERE / "serve.py"), str(folder), access_key, secret_key, REGION]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=clean | {"PYTHONWARNINGS": "ignore"},
            ) as process,
        ):
            try:
                said = _first_line(process, folder / "log")
                yield S3Server(
                    url=f"http://127.0.0.1:{said['port']}",
                    tls_url=f"https://127.0.0.1:{said['tls_port']}",
                    ca=Path(said["ca"]),
                    access_key=access_key,
                    secret_key=secret_key,
                    region=REGION,
                    pid=process.pid,
                )
            finally:
                _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _installed() -> Path:
    """Return the interpreter that has Swift, in a folder named by what is to be installed."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"venv-{wanted}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        _hold(lock)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
            (folder / "complete").touch()
    return folder / "bin" / "python"


def _install(folder: Path) -> None:
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = ["--require-hashes", "--prefer-binary", "-r", str(REQUIREMENTS)]
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *wanted]):
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=INSTALL_PATIENCE
            )
        except subprocess.CalledProcessError as error:
            raise CannotServeError(f"the S3 server was not installed:\n{error.stderr}") from None
        except subprocess.TimeoutExpired:
            raise CannotServeError("the S3 server was not installed in 300 s") from None


def _hold(lock: IO[str]) -> None:
    end = time.monotonic() + INSTALL_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise CannotServeError("somebody else has been installing for 300 s") from None
            time.sleep(0.2)


def _run_folder() -> Path:
    for old in CACHE.glob("run-*"):
        with suppress(FileNotFoundError):
            if old.stat().st_mtime < time.time() - FORGOTTEN:
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    try:
        os.setxattr(folder, "user.swift.probe", b"x" * 512)
    except (AttributeError, OSError) as error:
        folder.rmdir()
        raise CannotServeError(
            f"the S3 server keeps its facts in user xattrs, and {CACHE} has none ({error}); "
            "use a checkout on ext4, xfs or btrfs"
        ) from None
    return folder


def _first_line(process: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_PATIENCE)
    line = process.stdout.readline() if ready else b""
    if not line:
        said = log.read_text(errors="replace")[-2000:]
        raise CannotServeError(f"the S3 server did not start:\n{said}")
    answer: dict[str, str] = json.loads(line)
    return answer


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
