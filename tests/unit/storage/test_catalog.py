"""The catalog: what an operator writes, and what is refused in an operator's words."""

from pathlib import Path
from typing import Any

import pytest

from storage.attempt import Cost, CostSource, Usage
from storage.catalog import Catalog, Deployment, Price, parse
from storage.dialect import DIALECTS
from storage.errors import Invalid


CATALOG = Path(__file__).parents[3] / "deploy" / "darkroom.toml"
WHOLE = """
default_model = "sketch"

[aliases]
"dall-e-3" = "gpt-image-2"

[[deployments]]
name = "sketch"
model = "sketch"
provider = "sketch"

[[deployments]]
name = "openai-second"
model = "gpt-image-2"
provider = "openai"
priority = 5
api_key_env = "OPENAI_API_KEY"

[[deployments]]
name = "openai-first"
model = "gpt-image-2"
provider = "openai"
upstream_model = "gpt-image-2-2026"
base_url = "https://relay.example.com/v1/"
max_concurrency = 50
requests_per_minute = 500
timeout = 120
capabilities = { n = 4, sizes = ["1024x1024", "auto"] }
price = { per_image = 0.05, per_quality = { high = 0.2 }, as_of = "2026-11-01" }
options = { background = "opaque" }
"""


def row(**fields: Any) -> str:
    """Return a catalog of one deployment; a field that is None is left out."""
    values = {"name": '"a"', "model": '"m"', "provider": '"sketch"', **fields}
    lines = [f"{name} = {value}" for name, value in values.items() if value is not None]
    return "\n".join(["[[deployments]]", *lines])


def only(catalog: Catalog) -> Deployment:
    (deployment,) = catalog.deployments
    return deployment


# -- reading ---------------------------------------------------------------------------------------


def test_a_catalog_says_what_is_served_and_by_whom() -> None:
    catalog = parse(WHOLE)
    assert list(catalog.models) == ["sketch", "gpt-image-2"]
    names = [deployment.name for deployment in catalog.models["gpt-image-2"].deployments]
    assert names == ["openai-first", "openai-second"]


def test_a_deployment_says_only_what_differs_from_its_dialect() -> None:
    first = parse(WHOLE).models["gpt-image-2"].deployments[0]
    assert first.capabilities.n == 4
    assert first.capabilities.sizes == ("1024x1024", "auto")
    assert first.capabilities.max_edge == DIALECTS["openai"].capabilities.max_edge
    assert first.base_url == "https://relay.example.com/v1"
    assert first.upstream_model == "gpt-image-2-2026"


def test_what_a_deployment_leaves_out_comes_from_its_dialect() -> None:
    second = parse(WHOLE).models["gpt-image-2"].deployments[1]
    assert second.capabilities == DIALECTS["openai"].capabilities
    assert second.base_url == DIALECTS["openai"].base_url
    assert second.upstream_model == "gpt-image-2"


def test_a_name_leads_to_its_model_by_alias_too() -> None:
    catalog = parse(WHOLE)
    assert catalog.resolve("gpt-image-2") is catalog.models["gpt-image-2"]
    assert catalog.resolve("dall-e-3") is catalog.models["gpt-image-2"]
    assert catalog.resolve(None) is catalog.models["sketch"]
    assert catalog.resolve("unheard-of") is None


def test_without_a_default_a_request_without_a_model_finds_none() -> None:
    assert parse(row()).resolve(None) is None


def test_an_empty_catalog_serves_nothing() -> None:
    assert list(parse("").deployments) == []


def test_the_shipped_catalog_is_sound() -> None:
    catalog = parse(CATALOG.read_text(encoding="utf-8"))
    assert catalog.resolve(None) is not None
    for deployment in catalog.deployments:
        needs_key = DIALECTS[deployment.provider].needs_key
        assert (deployment.api_key_env is not None) or not needs_key, deployment.name


# -- refusing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "param", "word"),
    [
        ("default_model =", "catalog", "TOML"),
        ("deployments = 5", "deployments", "tables"),
        ("deployments = [5]", "deployments", "tables"),
        ('[[deployment]]\nname = "a"', "deployment", "no setting deployment"),
        (row(provider='"opnai"'), "provider", "'opnai'"),
        (row(provider=None), "provider", "None"),
        (row(name=None), "deployments", "name"),
        (row(name='""'), "deployments", "name"),
        (row(model=None), "deployments", "model"),
        (row(modell='"m"'), "deployments", "modell"),
        (row(weight="-1"), "deployments", "weight"),
        (row(weight="0"), "deployments", "weight"),
        (row(timeout="0"), "deployments", "timeout"),
        (row(timeout="nan"), "deployments", "timeout"),
        (row(max_concurrency="0"), "deployments", "max_concurrency"),
        (row(requests_per_minute="0"), "deployments", "requests_per_minute"),
        (row(capabilities="5"), "deployments", "table"),
        (row(capabilities="{ n = 0 }"), "deployments", "capabilities.n"),
        (row(capabilities="{ wings = true }"), "deployments", "capabilities.wings"),
        (row(capabilities="{ multiple_of = 0 }"), "deployments", "multiple_of"),
        (row(capabilities="{ max_ratio = 0.5 }"), "deployments", "max_ratio"),
        (row(capabilities='{ sizes = ["1024"] }'), "deployments", "sizes"),
        (row(capabilities='{ sizes = ["0x10"] }'), "deployments", "sizes"),
        (row(capabilities='{ ratios = ["16x9"] }'), "deployments", "ratios"),
        (row(capabilities='{ ratios = ["1:0"] }'), "deployments", "ratios"),
        (row(capabilities="{ min_pixels = 9, max_pixels = 8 }"), "capabilities", "no size"),
        (row(price="{ per_image = -1.0 }"), "deployments", "per_image"),
        (row(price="{ per_image = inf }"), "deployments", "per_image"),
        (row(price="{ each = 1.0 }"), "deployments", "price.each"),
        (row() + "\n" + row(), "name", "two deployments named a"),
        ('aliases = "x"\n' + row(), "aliases", "names"),
        ("[aliases]\nx = 5\n" + row(), "aliases", "names"),
        ('[aliases]\nx = "gone"\n' + row(), "aliases", "gone"),
        ('default_model = "gone"\n' + row(), "default_model", "gone"),
        (row(provider='"chat_relay"'), "base_url", "needs a base_url"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(text: str, param: str, word: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse(text)
    assert refusal.value.param == param
    assert word in refusal.value.message


# -- prices ----------------------------------------------------------------------------------------


def test_images_cost_what_the_list_says() -> None:
    price = Price(per_image=0.05, per_input_image=0.01)
    assert price.of_images(3, inputs=2) == Cost(0.17, CostSource.PRICE_TABLE)


def test_no_images_cost_nothing_even_with_inputs() -> None:
    assert Price(per_image=0.05, per_input_image=0.01).of_images(0, inputs=2).amount == 0.0


@pytest.mark.parametrize(("quality", "amount"), [("high", 0.2), ("low", 0.05), (None, 0.05)])
def test_a_quality_can_have_a_price_of_its_own(quality: str | None, amount: float) -> None:
    price = Price(per_image=0.05, per_quality={"high": 0.2})
    assert price.of_images(1, quality=quality).amount == amount


def test_a_price_by_size_needs_the_size() -> None:
    price = Price(per_megapixel=0.04)
    assert price.of_images(2, pixels=1_500_000).amount == pytest.approx(0.12)
    assert price.of_images(2) == Cost()


def test_a_price_that_nobody_listed_is_unknown() -> None:
    assert Price().of_images(5) == Cost()


def test_tokens_cost_by_kind() -> None:
    price = Price(
        input_text_tokens=5.0,
        input_image_tokens=10.0,
        cached_tokens=1.25,
        output_text_tokens=10.0,
        output_image_tokens=40.0,
    )
    usage = Usage(
        input_tokens=1000,
        input_image_tokens=600,
        cached_tokens=100,
        output_tokens=2000,
        output_text_tokens=500,
    )
    expected = (300 * 5 + 600 * 10 + 100 * 1.25 + 500 * 10 + 1500 * 40) / 1_000_000
    assert price.of_tokens(usage) == Cost(round(expected, 10), CostSource.COMPUTED)


def test_input_tokens_without_prices_of_their_own_cost_as_text() -> None:
    price = Price(input_text_tokens=5.0, output_image_tokens=40.0)
    usage = Usage(input_tokens=100, input_image_tokens=60, cached_tokens=20, output_tokens=0)
    assert price.of_tokens(usage) == Cost(0.0005, CostSource.COMPUTED)


@pytest.mark.parametrize(
    ("price", "usage"),
    [
        (Price(output_image_tokens=40.0), None),
        (Price(output_image_tokens=40.0), Usage(input_tokens=5)),
        (Price(per_image=1.0), Usage(output_tokens=5)),
    ],
    ids=["no tokens", "no output", "no price"],
)
def test_tokens_that_nobody_counted_or_priced_have_no_price(
    price: Price, usage: Usage | None
) -> None:
    assert price.of_tokens(usage) is None
