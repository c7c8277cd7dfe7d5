"""`deploy/env.example`, made from what the processes really read: `python -m tests.environment`.

Kept beside the tests because it looks into both processes, which nothing else may.
"""

import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from service.settings import Settings as ServiceSettings
from worker.settings import Settings as WorkerSettings


ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "deploy" / "env.example"

HEADING = """\
# Every variable that Darkroom reads, with its default. Copy what you change and leave the rest.
# deploy/up fills in what one machine needs; by hand, every process needs a DARKROOM_SECRET.
"""
STARTER = """
# -- deploy/up alone

# Worker processes that deploy/up starts
# DARKROOM_WORKERS=1

# 1: also start a receiver of webhooks on this machine, as deploy/up --catcher does
# DARKROOM_CATCHER=0

# Its port, on 127.0.0.1; 0 takes any free one, and is the default where DARKROOM_PORT is 0
# DARKROOM_CATCHER_PORT=8401
"""

Variables = Mapping[str, tuple[FieldInfo, Any]]


def render() -> str:
    """Return the text of the example."""
    service = dict(variables(ServiceSettings))
    worker = dict(variables(WorkerSettings))
    both = {name: service[name] for name in service if name in worker}
    parts = [
        HEADING,
        section("service and worker", both),
        section("service", {n: v for n, v in service.items() if n not in both}),
        section("worker", {n: v for n, v in worker.items() if n not in both}),
    ]
    return "".join(parts) + STARTER


def variables(
    model: type[BaseModel], prefix: str = "DARKROOM_"
) -> Iterator[tuple[str, tuple[FieldInfo, Any]]]:
    """Yield the name of each variable with its field and its default."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from variables(kind, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", (field, field.get_default(call_default_factory=True))


def section(title: str, found: Variables) -> str:
    """Return the lines of some variables under a title."""
    lines = [f"\n# -- {title}"]
    for name, (field, default) in found.items():
        lines.append("")
        lines += [f"# {line}" for line in wrap(field.description or "", 96)]
        lines.append(f"# {name}={shown(default)}")
    return "\n".join(lines) + "\n"


def shown(default: object) -> str:
    """Return a default as one writes it in an environment."""
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case SecretStr():
            return default.get_secret_value()
        case Enum():
            return str(default.value)
        case Path() if default.is_relative_to(ROOT):
            return str(default.relative_to(ROOT))
        case _:
            return str(default)


if __name__ == "__main__":
    EXAMPLE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{EXAMPLE}\n")
