"""The command line: what an operator can say to `python -m service`."""

import argparse
import re
from typing import Any, Final


_SPAN: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Unlimited:
    """What `none` stands for on the command line, told apart from what was not named."""


UNLIMITED: Final = Unlimited()


def add_commands(commands: Any) -> None:
    """Add the commands to a parser's own."""
    keys = commands.add_parser("keys", help="API keys").add_subparsers(dest="act", required=True)
    create = keys.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--tenant", required=True, help="made as well when there is none")
    create.add_argument("--environment", choices=["live", "test"])
    create.add_argument("--expires-in", type=_span, metavar="30d")
    _add_key_options(create)
    keys.add_parser("list", help="list a tenant's keys").add_argument("--tenant", required=True)
    keys.add_parser("show", help="show a key").add_argument("id")
    changed = keys.add_parser("set", help="change a key")
    changed.add_argument("id")
    _add_key_options(changed)
    rotated = keys.add_parser("rotate", help="make a key in the place of another and print it")
    rotated.add_argument("id")
    rotated.add_argument(
        "--overlap", type=_span, metavar="24h", help="how long the old key works on"
    )
    revoked = keys.add_parser("revoke", help="make a key stop working within five seconds")
    revoked.add_argument("id")
    tenants = commands.add_parser("tenants", help="tenants").add_subparsers(
        dest="act", required=True
    )
    tenants.add_parser("list", help="list all tenants")
    tenants.add_parser("show", help="show a tenant").add_argument("id")
    limited = tenants.add_parser("set", help="make a tenant, or change its limits")
    limited.add_argument("id")
    limited.add_argument("--weight", type=float, help="share of the queue")
    limited.add_argument("--max-queued", type=_limit, help="open jobs at one time, or none")
    limited.add_argument("--max-running", type=_limit, help="jobs at work at one time, or none")
    limited.add_argument("--requests-per-minute", type=_limit, help="that submit, or none")
    limited.add_argument("--spend-per-day", type=_dollars, help="USD, or none")
    removed = tenants.add_parser("remove", help="remove a tenant with all that it has, for good")
    removed.add_argument("id")
    commands.add_parser("audit", help="what operators did, the latest last")


def _add_key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="what the key is for")
    parser.add_argument(
        "--scope", action="append", dest="scopes", choices=["submit", "read", "admin"]
    )
    parser.add_argument("--requests-per-minute", type=_limit, help="that submit, or none")
    parser.add_argument("--spend-per-day", type=_dollars, help="USD, or none")


def _limit(text: str) -> int | Unlimited:
    return UNLIMITED if text == "none" else int(text)


def _dollars(text: str) -> float | Unlimited:
    return UNLIMITED if text == "none" else float(text)


def _span(text: str) -> float:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must be such as 90s, 15m, 24h or 30d")
    return int(match[1]) * _SECONDS[match[2]]
