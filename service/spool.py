"""The spool: a folder for each process, where large files of clients lie while they come in.

The folder goes with its process. That of a process which was killed is known by its lock, which
nobody holds any more, and goes when the next process starts.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog


log = structlog.get_logger()


def folder_below(spool: Path) -> Path:
    """Return a new name for the folder of one process."""
    return spool / secrets.token_hex(8)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the folder for this process while the context lasts; clear up after the dead before.

    Where nothing can be written, small files are taken in all the same.
    """
    lock: int | None = None
    try:
        _clear_up(folder.parent)
        lock = _made(folder)
    except OSError as error:
        log.warning("no_spool", folder=str(folder.parent), reason=error.strerror)
    try:
        yield
    finally:
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _made(folder: Path) -> int:
    """Make the folder under a name that nobody clears up, lock it, and give it its own."""
    unlocked = folder.with_name(f".{folder.name}")
    unlocked.mkdir(parents=True)
    lock = os.open(unlocked, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unlocked.rename(folder)
    return lock


def _clear_up(spool: Path) -> None:
    if not spool.is_dir():
        return
    for folder in spool.iterdir():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        with suppress(OSError):  # locked: it is in use
            lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
