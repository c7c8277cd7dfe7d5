"""`python -m service`: serves. `… keys`, `… tenants`, `… audit`: who may use it, and who said so.

A fault of configuration is one line on standard error and exit code 78, so that a supervisor
knows that trying again will not help.
"""

import argparse
import asyncio
import sys

import structlog
import uvloop
from pydantic import ValidationError

from service.app import CONTEXT, Misconfigured, make_app
from service.commandline import add_commands
from service.console import run
from service.server import listen, serve
from service.settings import Settings
from storage.errors import Error
from storage.logs import configure
from storage.memory import keep_large_buffers


EX_CONFIG = 78
EX_UNAVAILABLE = 69


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        settings = Settings()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if asked.command is None:
                runner.run(_serve(settings))
                return 0
            return runner.run(run(settings, asked))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "__".join(str(step) for step in first["loc"]).upper()
        return _end(f"DARKROOM_{name}: {first['msg']}", EX_CONFIG)
    except Misconfigured as error:
        return _end(str(error), EX_CONFIG)
    except Error as error:
        return _end(error.message, EX_UNAVAILABLE)


async def _serve(settings: Settings) -> None:
    configure("service", settings.log_level)
    keep_large_buffers()
    try:
        listening = listen(settings.host, settings.port)
    except OSError as error:
        message = f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}."
        raise Misconfigured(message) from error
    port = listening.getsockname()[1]
    url = settings.public_url or f"http://{_within_url(settings.host)}:{port}"
    settings = settings.model_copy(update={"public_url": url, "port": port})
    log = structlog.get_logger()
    app = make_app(settings)
    await serve(
        app,
        listening,
        ready=lambda: log.info("listening", port=port, public_url=url),
        reload=app[CONTEXT].catalogs.ask,
    )


def _within_url(host: str) -> str:
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 — compared, not bound  # nosec B104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    add_commands(commands)
    return parser


def _end(message: str, code: int) -> int:
    sys.stderr.write(message + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
