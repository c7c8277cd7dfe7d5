"""The data folder: what one installation on this machine keeps between two starts.

Everything in it is for its owner only. It is held by one supervisor at a time, through a lock that
the kernel gives back when the process is gone, however it went.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path


class Held(Exception):
    """Another supervisor runs in this folder."""


class Folder:
    """One data folder, made and held for as long as this object lives. Raises `Held`."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._lock = (path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Held(f"Darkroom runs in {path} already") from None
        self.forget_ready()

    def secret(self) -> str:
        """Return the installation's own secret, 32 random bytes in hex, made at the first call."""
        kept = self._read("secret")
        if kept is None:
            kept = os.urandom(32).hex()
            self._write("secret", kept)
        return kept

    @property
    def key(self) -> str | None:
        """The API key that was made at the first start."""
        return self._read("key")

    @key.setter
    def key(self, key: str) -> None:
        self._write("key", key)

    def tell_ready(self, facts: Mapping[str, object]) -> None:
        """Write `ready.json`; who reads it sees the old one or the new one, never a part."""
        self._write("ready.json", json.dumps(facts, indent=1))

    def forget_ready(self) -> None:
        """Remove `ready.json`: nothing is promised any more."""
        (self.path / "ready.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Let another supervisor have the folder."""
        self._lock.close()

    def _read(self, name: str) -> str | None:
        file = self.path / name
        return file.read_text().strip() or None if file.exists() else None

    def _write(self, name: str, text: str) -> None:
        write_private(self.path / name, text + "\n")


def write_private(file: Path, text: str) -> None:
    """Replace `file` whole, readable by its owner alone from its first byte on."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(file)
