"""Makes the virtual environment that everything runs in, from a lock file with hashes.

Runs on a bare Python, before anything is installed: standard library only. What was installed is
remembered by the digest of its lock file, so that the second start does not ask pip.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


STAMP = "installed"  # beside pyvenv.cfg; only there once pip has ended well


def prepare(home: Path, lock: Path) -> Path:
    """Return the Python of the environment at `home`, with what `lock` names installed in it.

    Two calls at once wait for each other. Exits with one line when it cannot be made; pip has then
    said why.
    """
    python = home / "bin" / "python"
    wanted = _digest(lock)
    if _installed(home) == wanted:
        return python
    with _alone(home):
        if _installed(home) != wanted:
            print(f"Installing {lock.name} into {home} ...", file=sys.stderr, flush=True)
            _install(home, python, lock)
            (home / STAMP).write_text(wanted)
    return python


def _digest(lock: Path) -> str:
    """Tell apart lock files and interpreters: an environment is good for one of each."""
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{version} {hashlib.sha256(lock.read_bytes()).hexdigest()}"


def _installed(home: Path) -> str | None:
    stamp = home / STAMP
    # A checkout that was moved leaves an interpreter that points nowhere.
    return stamp.read_text() if stamp.exists() and (home / "bin" / "python").exists() else None


def _install(home: Path, python: Path, lock: Path) -> None:
    """Start from nothing, so that what an older lock file left behind is gone."""
    if home.exists() and not (home / "pyvenv.cfg").exists():
        sys.exit(f"{home} is in the way and is no virtual environment; move it elsewhere")
    shutil.rmtree(home, ignore_errors=True)
    try:
        venv.create(home, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("This Python cannot make a virtual environment; Debian keeps that in python3-venv")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    wanted = ["--require-hashes", "-r", str(lock)]
    # Standard output is for those who read ours; pip's goes to standard error.
    if subprocess.run([*pip, *wanted], check=False, stdout=sys.stderr).returncode != 0:
        sys.exit(f"pip could not install {lock.name}; the reason stands above")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with Path(f"{home}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def enter(root: Path, python: Path, module: str) -> None:
    """Become `python -m module`, run from the root of the checkout."""
    os.chdir(root)
    os.execv(python, [str(python), "-m", module])  # noqa: S606 — no shell is the point
