"""Wishes: what the environment asks of the supervisor itself, read and judged before anything runs.

Standard library only, as the supervisor is.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.0/8,::1/128"
DRAIN = 60  # seconds that a worker gives its running jobs by itself, unless it is told otherwise
CATCHER_HOST = "127.0.0.1"
CATCHER_PORT = 8401


class Unable(Exception):
    """It cannot run here; `code` is what the process exits with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked of the supervisor; the rest of the environment is for its children.

    `catcher` is the port of the webhook catcher, 0 for any free one, or None without a catcher.
    """

    data: Path
    host: str
    port: int
    workers: int
    drain: int
    catcher: int | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Wishes":
        """Raise `Unable` when a value is not what it should be."""
        data = environment.get("DARKROOM_DATA") or ROOT / ".darkroom"
        port = _number(environment, "DARKROOM_PORT", 8400, range(65536))
        return cls(
            data=Path(data).absolute(),
            host=environment.get("DARKROOM_HOST") or "127.0.0.1",
            port=port,
            workers=_number(environment, "DARKROOM_WORKERS", 1, range(65)),
            drain=_number(environment, "DARKROOM_WORKER__DRAIN", DRAIN, range(3601)),
            catcher=_catcher(environment, CATCHER_PORT if port else 0),
        )


def _number(environment: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    said = environment.get(name) or str(default)
    if not said.isascii() or not said.isdigit() or int(said) not in allowed:
        raise Unable(f"{name} is {said!r}; it must be a number from 0 to {allowed[-1]}")
    return int(said)


def _catcher(environment: Mapping[str, str], usual: int) -> int | None:
    """Return the port of the catcher, or None when none is wanted."""
    if not _number(environment, "DARKROOM_CATCHER", 0, range(2)):
        return None
    networks = environment.get("DARKROOM_ALLOW_NETWORKS", LOOPBACK).split(",")
    with suppress(ValueError):  # the service says so in its own words
        allowed = [ip_network(one.strip(), strict=False) for one in networks if one.strip()]
        if not any(ip_address(CATCHER_HOST) in network for network in allowed):
            raise Unable(
                f"DARKROOM_CATCHER needs DARKROOM_ALLOW_NETWORKS to hold {CATCHER_HOST}:"
                " no webhook would arrive"
            )
    return _number(environment, "DARKROOM_CATCHER_PORT", usual, range(65536))
