"""Claims about the README: what it names is there."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from service.endpoints.description import pages
from service.routes import OPEN, ROUTES
from storage.catalog import Deployment, Price
from storage.dialect import Capabilities
from tests.unit.deploy.test_manifests import KNOWN


ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
OF_THE_SUPERVISOR = {"DARKROOM_WORKERS", "DARKROOM_CATCHER", "DARKROOM_CATCHER_PORT"}


def test_every_door_that_it_shows_is_open() -> None:
    shown = set(re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^`?]*)`", README))
    doors = {(route.method, route.path) for route in ROUTES}
    doors |= {(door.method, door.path) for door in OPEN}
    doors |= {("GET", path) for path, _ in pages(ROUTES, OPEN)}
    there = {(method, re.sub(r":[^}]*}", "}", path)) for method, path in doors}
    assert shown
    assert shown - there == set()


def test_every_variable_that_it_names_is_read() -> None:
    assert set(re.findall(r"DARKROOM_[A-Z_]*[A-Z]", README)) <= KNOWN | OF_THE_SUPERVISOR


def test_every_dependency_has_its_reason_and_every_reason_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {re.split(r"[\[<>=;~ ]", line)[0] for line in wanted} | {"hiredis"}
    table = README.partition("### Why each dependency")[2]
    cells = re.findall(r"^\| ([a-z][^|]*) \| (?!why)", table, re.MULTILINE)
    said = {name for cell in cells for name in re.sub(r" \(.*\)", "", cell).split(", ")}
    assert said == names


@pytest.mark.parametrize("kind", [Deployment, Capabilities, Price])
def test_the_catalog_is_described_field_by_field(kind: Any) -> None:
    described = README.partition("\n## The catalog\n")[2].partition("\n## ")[0]
    assert {field.name for field in fields(kind)} <= set(re.findall(r"`(\w+)`", described))


def test_every_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"`((?:deploy|worker|storage|tests)/[\w./]+)`", README))
    assert {name for name in named if not (ROOT / name).exists()} == set()
