from pathlib import Path
from typing import Any

import pytest

from storage.attempt import Cost, CostSource
from storage.catalog import parse
from storage.facts import Facts
from storage.failure import Failure, FailureCode
from worker.check_catalog import MISCONFIGURED, USAGE, main, report, told
from worker.trial import Trial


CATALOG = parse(
    """
    default_model = "sketch"

    [aliases]
    "dall-e-3" = "paint"

    [[deployments]]
    name = "sketch"
    model = "sketch"
    provider = "sketch"
    price = { per_image = 0.0 }

    [[deployments]]
    name = "main"
    model = "paint"
    provider = "openai"
    api_key_env = "MAIN_KEY"

    [[deployments]]
    name = "spare"
    model = "paint"
    provider = "openai"
    """
)


def test_what_needs_no_key_is_on_and_the_rest_says_which_variable_is_missing() -> None:
    text = report(CATALOG, {})
    assert "2 models with 3 deployments: 1 on, 2 off." in text
    assert "A request that names no model gets sketch." in text
    assert "  on   sketch: sketch, needs no key\n" in text
    assert "  off  main: MAIN_KEY is not set\n" in text
    assert "  off  spare: openai needs a key and no api_key_env says where it is\n" in text


def test_a_key_switches_on_and_is_not_shown() -> None:
    text = report(CATALOG, {"MAIN_KEY": "sk-canary"})
    assert "  on   main: openai, at https://api.openai.com/v1, with the key in MAIN_KEY" in text
    assert "sk-canary" not in text


def test_a_deployment_without_a_price_is_pointed_out() -> None:
    lines = report(CATALOG, {"MAIN_KEY": "x"}).splitlines()
    (line,) = [line for line in lines if " main:" in line]
    assert line.endswith("no price, so costs may stay unknown")


def test_names_that_stand_for_a_model_are_told() -> None:
    assert "paint (also dall-e-3)\n" in report(CATALOG, {})


def test_an_empty_key_is_no_key() -> None:
    assert "main: MAIN_KEY is not set" in report(CATALOG, {"MAIN_KEY": ""})


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cost": Cost(0.04, CostSource.REPORTED)}, "png of 8x9 in 1.5 s, $0.0400 as reported"),
        ({"cost": Cost(0.04, CostSource.COMPUTED)}, "png of 8x9 in 1.5 s, $0.0400 by its tokens"),
        (
            {"cost": Cost(0.04, CostSource.PRICE_TABLE)},
            "png of 8x9 in 1.5 s, $0.0400 by the price list",
        ),
        ({}, "png of 8x9 in 1.5 s, at an unknown cost"),
    ],
)
def test_a_trial_that_works_says_what_it_made_and_cost(changes: dict[str, Any], line: str) -> None:
    facts = Facts(format="png", width=8, height=9, bytes=10)
    deployment = next(iter(CATALOG.deployments))
    trial = Trial(deployment=deployment, seconds=1.5, facts=facts, **changes)
    assert told(trial) == f"  works   sketch: {line}"


def test_a_trial_that_fails_says_why() -> None:
    failure = Failure(code=FailureCode.AUTH, message="The key is bad.")
    trial = Trial(deployment=next(iter(CATALOG.deployments)), seconds=0.04, failure=failure)
    assert told(trial) == "  FAILED  sketch after 0.0 s: auth: The key is bad."


def test_the_command_reads_the_catalog_that_a_worker_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text('[[deployments]]\nname = "s"\nmodel = "s"\nprovider = "sketch"\n')
    monkeypatch.setenv("DARKROOM_CATALOG", str(path))
    assert main([]) == 0
    assert "1 models with 1 deployments: 1 on, 0 off." in capsys.readouterr().out


def test_a_live_trial_ends_with_0_only_if_all_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "catalog.toml"
    rows = '[[deployments]]\nname = "s"\nmodel = "s"\nprovider = "sketch"\n'
    path.write_text(rows)
    monkeypatch.setenv("DARKROOM_CATALOG", str(path))
    assert main(["--live"]) == 0
    assert "works   s: png of 256x256" in capsys.readouterr().out
    path.write_text(
        f'{rows}[[deployments]]\nname = "dead"\nmodel = "d"\nprovider = "automatic1111"\n'
        'base_url = "http://127.0.0.1:1"\n'
    )
    assert main(["--live"]) == 1
    assert "FAILED  dead" in capsys.readouterr().out


def test_a_catalog_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_CATALOG", str(tmp_path / "none.toml"))
    assert main([]) == MISCONFIGURED
    (tmp_path / "none.toml").write_text('[[deployments]]\nname = "x"\nprovider = "nobody"\n')
    assert main([]) == MISCONFIGURED
    missing, wrong = capsys.readouterr().err.splitlines()
    assert missing.endswith("cannot be read.")
    assert wrong == "Deployment x: there is no provider 'nobody'."


def test_an_unknown_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--fast"]) == USAGE
    assert capsys.readouterr().err.startswith("usage:")
