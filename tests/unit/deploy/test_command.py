"""The command `deploy/up` itself, before there is an environment to run in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.wishes import ROOT


ENVIRONMENT = """
import os

def prepare(home, lock):
    return "python of " + home.name

def enter(root, python, module):
    print(python, module, os.environ.get("DARKROOM_CATCHER"), os.environ.get("DARKROOM_DATA"))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a place with the command, where making an environment is only said."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "up", tmp_path / "deploy")
    (tmp_path / "deploy" / "environment.py").write_text(ENVIRONMENT)
    return tmp_path


def up(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DARKROOM_")}
    return subprocess.run(
        [sys.executable, checkout / "deploy" / "up", *arguments],
        env=clean | environment,
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_word_it_becomes_the_supervisor(checkout: Path) -> None:
    assert up(checkout).stdout == "python of .venv deploy None None\n"


def test_a_catcher_is_asked_for_by_an_option_as_by_a_variable(checkout: Path) -> None:
    assert up(checkout, "--catcher").stdout == "python of .venv deploy 1 None\n"
    assert up(checkout, DARKROOM_CATCHER="1").stdout == "python of .venv deploy 1 None\n"


def test_a_folder_is_meant_from_where_the_user_stands(checkout: Path) -> None:
    assert up(checkout, DARKROOM_DATA="here").stdout.endswith(f" {checkout / 'here'}\n")


@pytest.mark.parametrize("word", ["--chatcher", "start", "--port=7"])
def test_a_word_that_it_does_not_know_starts_nothing(checkout: Path, word: str) -> None:
    answer = up(checkout, word)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert word in answer.stderr


def test_help_says_what_there_is(checkout: Path) -> None:
    answer = up(checkout, "--help")
    assert answer.returncode == 0
    assert "--catcher" in answer.stdout
