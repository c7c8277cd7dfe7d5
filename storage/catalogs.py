"""Catalogs: the one in force, and how a changed file takes its place without a restart.

A file takes its place whole or not at all: one that cannot be read, or that says something wrong,
leaves the old catalog in force and is complained of once. A file that is still being written is
left alone until it has rested.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import structlog

from storage.catalog import Catalog, parse
from storage.errors import Error, Invalid


LOOK_EVERY = 1.0

_Stamp: TypeAlias = tuple[int, int, int]

log = structlog.get_logger("storage.catalogs")


class Catalogs:
    """Holds the catalog in force. Whoever needs it asks for `current` each time."""

    def __init__(self, catalog: Catalog, path: Path | None = None) -> None:
        self.current = catalog
        self._path = path
        self._stamp = None if path is None else _stamp(path)
        self._asked = asyncio.Event()

    @classmethod
    def read(cls, path: Path) -> "Catalogs":
        """Return the catalog of a file; raises `Invalid` in an operator's words."""
        before = _stamp(path)
        catalogs = cls(_parsed(path), path)
        catalogs._stamp = before  # what was written while it was read is looked at again
        return catalogs

    def ask(self) -> None:
        """Have the file read again now, whether or not it changed."""
        self._asked.set()

    def reload(self) -> bool:
        """Read the file again and say whether its catalog is in force now."""
        if self._path is None:
            return False
        self._stamp = _stamp(self._path)
        try:
            self.current = _parsed(self._path)
        except Error as error:
            log.error("catalog_refused", reason=error.message)  # noqa: TRY400 — one line says it all
            return False
        names = [deployment.name for deployment in self.current.deployments]
        log.info("catalog_adopted", models=len(self.current.models), deployments=len(names))
        return True

    async def watch(
        self, adopted: Callable[[], None] = lambda: None, *, every: float = LOOK_EVERY
    ) -> None:
        """Look at the file again and again until cancelled; say when there is a new catalog."""
        if self._path is None:
            return
        seen = self._stamp
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._asked.wait()
            stamp = _stamp(self._path)
            rested, seen = stamp == seen, stamp
            if (self._asked.is_set() or (rested and stamp != self._stamp)) and self.reload():
                adopted()
            self._asked.clear()


def _parsed(path: Path) -> Catalog:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"The catalog {path} cannot be read.", param="catalog") from error


def _stamp(path: Path) -> _Stamp | None:
    """Return what changes when a file does; a link that is led elsewhere counts as a change."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
