"""The catalog that is shipped: what it says must be true of the code, and of itself."""

import re
import tomllib
from pathlib import Path

import pytest

from storage.catalog import Catalog, Deployment, Price, parse
from storage.dialect import DIALECTS
from storage.fit import Fit, Unfit, fit
from storage.request import Input, Request
from worker.providers import PROVIDERS


TEXT = (Path(__file__).parents[3] / "deploy" / "darkroom.toml").read_text()
CATALOG = parse(TEXT)
DEPLOYMENTS = sorted(CATALOG.deployments, key=lambda deployment: deployment.name)
SIZES = ("256x256", "1024x1024", "1536x1024", "1024x1792", "1000x999", "3840x2160", "64x4096")
each = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.name)


@pytest.fixture
def catalog() -> Catalog:
    return CATALOG


def test_the_first_model_needs_no_key_and_is_the_default(catalog: Catalog) -> None:
    assert next(iter(catalog.models)) == "sketch"
    model = catalog.resolve(None)
    assert model is not None
    assert model.name == "sketch"
    assert [d.api_key_env for d in model.deployments] == [None]


def test_every_dialect_is_there_and_has_a_provider(catalog: Catalog) -> None:
    assert {d.provider for d in catalog.deployments} == set(DIALECTS) == set(PROVIDERS)
    for name in DIALECTS:
        assert isinstance(PROVIDERS[name], type)


def test_every_alias_leads_to_a_model_and_hides_none(catalog: Catalog) -> None:
    assert catalog.aliases
    for alias in catalog.aliases:
        assert alias not in catalog.models
        assert catalog.resolve(alias) is not None


@pytest.mark.parametrize("name", ["dall-e-2", "dall-e-3", "gpt-image-1", "gemini-2.5-flash-image"])
def test_a_retired_name_stands_for_a_live_model(catalog: Catalog, name: str) -> None:
    model = catalog.resolve(name)
    assert model is not None
    assert model.name != name


@each
def test_a_deployment_without_a_key_never_calls_anybody(deployment: Deployment) -> None:
    if deployment.api_key_env is None:
        assert deployment.provider == "sketch"


@each
def test_a_price_says_when_it_was_read(deployment: Deployment) -> None:
    if deployment.price != Price():
        assert deployment.price.as_of is not None
        assert re.fullmatch(r"2026-(0\d|1[012])(-[0-3]\d)?", deployment.price.as_of)


@each
@pytest.mark.parametrize("size", SIZES)
def test_a_size_that_is_fitted_once_fits(deployment: Deployment, size: str) -> None:
    pictures = () if deployment.capabilities.generate else (Input(key="k"),)
    found = fit(Request(prompt="x", size=size, images=pictures), deployment)
    assert isinstance(found, Fit)
    again = fit(found.request, deployment)
    assert isinstance(again, Fit)
    assert again.request == found.request
    assert again.adaptations == ()


def test_those_who_generate_nothing_say_so(catalog: Catalog) -> None:
    refused = {
        d.name for d in catalog.deployments if isinstance(fit(Request(prompt="x"), d), Unfit)
    }
    assert refused == {
        "ark-seededit-3",
        "bfl-flux-fill-pro",
        "replicate-flux-fill-pro",
        "stability-inpaint",
    }


def test_no_secret_is_in_it() -> None:
    for row in tomllib.loads(TEXT)["deployments"]:
        assert not {"api_key", "key", "token"} & row.keys()
