import os

import pytest

from service.settings import Settings
from tests.environment import EXAMPLE, render


def test_it_names_every_variable_with_its_default() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == render(), "run: python -m tests.environment"


def test_every_variable_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("DARKROOM_"):
            monkeypatch.delenv(name)
    lines = [line[2:] for line in render().splitlines() if line.startswith("# DARKROOM_")]
    plain = Settings()
    for line in lines:
        name, _, value = line.partition("=")
        if value:
            monkeypatch.setenv(name, value)
    assert Settings(catalog=plain.catalog) == plain


@pytest.mark.parametrize("name", ["DARKROOM_REDIS__URL", "DARKROOM_OBJECTS__BUCKET"])
def test_groups_are_nested_by_two_underscores(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "redis://elsewhere:1/0")
    group, _, field = name.removeprefix("DARKROOM_").lower().partition("__")
    assert getattr(getattr(Settings(), group), field) == "redis://elsewhere:1/0"
