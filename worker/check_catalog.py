"""`python -m worker check-catalog`: what the catalog says, for the people who run it.

It reads the same catalog and the same environment as a worker, so that "off" here is off there.
With `--live` it also makes the cheapest real call at each deployment that is on, which costs money.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from storage.address import Allowance
from storage.attempt import CostSource
from storage.catalog import Catalog, Deployment, Price, parse
from storage.catalogs import Catalogs
from storage.dialect import DIALECTS
from storage.errors import Invalid
from worker.imaging import Imaging
from worker.provider import Tools
from worker.providers import PROVIDERS
from worker.router import Router
from worker.settings import Settings
from worker.trial import Trial, attempted
from worker.web import Web


USAGE = 64  # EX_USAGE, EX_CONFIG of sysexits.h
MISCONFIGURED = 78
AT_ONCE = 4


def main(arguments: Sequence[str]) -> int:
    """Print the report, and the trials if asked; return 0 unless something is wrong."""
    if set(arguments) - {"--live"}:
        sys.stderr.write("usage: python -m worker check-catalog [--live]\n")
        return USAGE
    try:
        settings = Settings()
        catalog = parse(settings.catalog.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "__".join(str(part) for part in first["loc"]).upper()
        sys.stderr.write(f"DARKROOM_{where}: {first['msg']}\n")
        return MISCONFIGURED
    except OSError:
        sys.stderr.write(f"The catalog {settings.catalog} cannot be read.\n")
        return MISCONFIGURED
    except Invalid as error:
        sys.stderr.write(f"{error.message}\n")
        return MISCONFIGURED
    sys.stdout.write(report(catalog, os.environ))
    return asyncio.run(_try_all(catalog, settings)) if arguments else 0


def report(catalog: Catalog, environ: Mapping[str, str]) -> str:
    """Say in plain words what is on, what is off and why; no key is shown, only its variable."""
    router = Router(Catalogs(catalog), environ)
    on = len(router.on)
    off = len(list(catalog.deployments)) - on
    lines = [f"{len(catalog.models)} models with {on + off} deployments: {on} on, {off} off."]
    if catalog.default_model is not None:
        lines.append(f"A request that names no model gets {catalog.default_model}.")
    for model in catalog.models.values():
        others = [alias for alias, target in catalog.aliases.items() if target == model.name]
        lines += ["", f"{model.name} (also {', '.join(others)})" if others else model.name]
        lines += [_line(deployment, environ, router) for deployment in model.deployments]
    return "\n".join(lines) + "\n"


def _line(deployment: Deployment, environ: Mapping[str, str], router: Router) -> str:
    if not router.is_on(deployment):
        return f"  off  {deployment.name}: {_why_off(deployment)}"
    variable = deployment.api_key_env
    key = f"with the key in {variable}" if variable else "needs no key"
    price = "" if deployment.price != Price() else "; no price, so costs may stay unknown"
    where = f"at {deployment.base_url}, " if deployment.base_url else ""
    return f"  on   {deployment.name}: {deployment.provider}, {where}{key}{price}"


def _why_off(deployment: Deployment) -> str:
    if deployment.provider not in PROVIDERS:
        return f"no provider speaks {deployment.provider}"
    if deployment.api_key_env is not None:
        return f"{deployment.api_key_env} is not set"
    if DIALECTS[deployment.provider].needs_key:
        return f"{deployment.provider} needs a key and no api_key_env says where it is"
    return "unknown reason"


async def _try_all(catalog: Catalog, settings: Settings) -> int:
    """Try each deployment that is on, a few at once, and print each trial as it ends."""
    gate = asyncio.Semaphore(AT_ONCE)
    imaging = Imaging()
    sys.stdout.write("\nTrying each deployment that is on, for one small image:\n")
    try:
        async with Web(allowance=Allowance.parse(settings.allow_networks)) as web:
            tools = Tools(web=web, imaging=imaging)

            async def one(deployment: Deployment) -> Trial:
                async with gate:
                    trial = await attempted(deployment, os.environ, tools, clock=time.monotonic)
                sys.stdout.write(f"{told(trial)}\n")
                sys.stdout.flush()
                return trial

            on = Router(Catalogs(catalog), os.environ).on
            trials = await asyncio.gather(*(one(deployment) for deployment in on))
    finally:
        await imaging.close()
    return 1 if any(trial.failure is not None for trial in trials) else 0


def told(trial: Trial) -> str:
    """Return one line about a trial."""
    name, seconds = trial.deployment.name, f"{trial.seconds:.1f} s"
    if trial.failure is not None:
        return f"  FAILED  {name} after {seconds}: {trial.failure.code}: {trial.failure.message}"
    facts = trial.facts
    made = "an image" if facts is None else f"{facts.format} of {facts.width}x{facts.height}"
    return f"  works   {name}: {made} in {seconds}, {_money(trial)}"


def _money(trial: Trial) -> str:
    if trial.cost.amount is None:
        return "at an unknown cost"
    words = {CostSource.REPORTED: "as reported", CostSource.COMPUTED: "by its tokens"}
    source = words.get(trial.cost.source, "by the price list")
    return f"${trial.cost.amount:.4f} {source}"
