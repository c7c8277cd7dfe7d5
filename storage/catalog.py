"""The catalog: which models we sell, by which deployments and at what price.

It is plain data in TOML, so that no list of upstream models lives in code. A model is a public name
and the deployments that serve it; a deployment is one way to do so. Nothing here knows an API key:
a deployment names the variable that holds it, and only a worker looks there.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from storage.attempt import Cost, CostSource, Usage
from storage.dialect import DIALECTS, Capabilities
from storage.errors import Invalid


MILLION = 1_000_000

_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Limit = Annotated[int, Field(ge=1)]
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a deployment charges, in USD: per image, per input image, or per million tokens.

    `per_quality` refines `per_image`; an image of more than `large_above` pixels, or of a size that
    the upstream picks, costs `per_large_image`. `as_of` is the day the price was read, for people.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    per_image: _Dollars | None = None
    per_quality: Mapping[str, _Dollars] = field(default_factory=dict)
    per_large_image: _Dollars | None = None
    large_above: _Limit = 1
    per_input_image: _Dollars = 0.0
    per_megapixel: _Dollars | None = None
    input_text_tokens: _Dollars | None = None
    input_image_tokens: _Dollars | None = None
    cached_tokens: _Dollars | None = None
    output_text_tokens: _Dollars | None = None
    output_image_tokens: _Dollars | None = None
    as_of: str | None = None

    @property
    def is_by_tokens(self) -> bool:
        """Say whether the upstream charges by tokens: a price per image is an estimate then."""
        return self.output_image_tokens is not None

    def of_tokens(self, usage: Usage | None) -> Cost | None:
        """Return the price of counted tokens, or None where tokens or their price are not known."""
        if usage is None or self.output_image_tokens is None or usage.output_tokens is None:
            return None
        text_out = usage.output_text_tokens or 0
        cached = usage.cached_tokens or 0
        image_in = usage.input_image_tokens or 0
        text_in = max((usage.input_tokens or 0) - image_in - cached, 0)
        text_rate = self.input_text_tokens or 0.0
        amount = (
            text_in * text_rate
            + image_in
            * (self.input_image_tokens if self.input_image_tokens is not None else text_rate)
            + cached * (self.cached_tokens if self.cached_tokens is not None else text_rate)
            + text_out * (self.output_text_tokens or 0.0)
            + (usage.output_tokens - text_out) * self.output_image_tokens
        )
        return Cost(round(amount / MILLION, 10), CostSource.COMPUTED)

    def of_images(
        self, count: int, *, inputs: int = 0, quality: str | None = None, pixels: int | None = None
    ) -> Cost:
        """Return the listed price of `count` images of `pixels` each, or an unknown cost."""
        each = self.per_quality.get(quality or "", self.per_image)
        if self.per_large_image is not None and (pixels is None or pixels > self.large_above):
            each = self.per_large_image
        if each is None and self.per_megapixel is not None and pixels is not None:
            each = self.per_megapixel * pixels / MILLION
        if each is None:
            return Cost()
        amount = each * count + self.per_input_image * inputs * (count > 0)
        return Cost(round(amount, 10), CostSource.PRICE_TABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One way to serve a model: dialect, upstream model, credentials by name, limits and price.

    `timeout` is in seconds for one call; `max_concurrency` and `requests_per_minute` hold over all
    workers; a lower `priority` is tried first, and `weight` shares the load among equals.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: _Name
    model: _Name
    provider: str
    upstream_model: str = ""
    base_url: str = ""
    api_key_env: str | None = None
    priority: int = 0
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    max_concurrency: _Limit | None = None
    requests_per_minute: _Limit | None = None
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    capabilities: Capabilities = field(default_factory=Capabilities)
    price: Price = field(default_factory=Price)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A public name and the deployments that serve it, the preferred first."""

    name: str
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All models, the names that stand for other names, and the model of those who name none."""

    models: Mapping[str, Model]
    aliases: Mapping[str, str] = field(default_factory=dict)
    default_model: str | None = None

    def resolve(self, name: str | None) -> Model | None:
        """Return the model that `name` means, aliases followed, or None for an unknown name."""
        asked = name or self.default_model or ""
        return self.models.get(self.aliases.get(asked, asked))

    @property
    def deployments(self) -> Iterable[Deployment]:
        """Return every deployment of every model."""
        return (d for model in self.models.values() for d in model.deployments)


def parse(text: str) -> Catalog:
    """Return the catalog that a TOML text describes; raises `Invalid` in an operator's words."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"The catalog is not valid TOML: {error}"
        raise Invalid(message, param="catalog") from error
    _refuse_unknown(table)
    rows = table.get("deployments", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        message = "The catalog's deployments must be [[deployments]] tables."
        raise Invalid(message, param="deployments")
    deployments = [_deployment(row) for row in rows]
    _refuse_duplicates(deployment.name for deployment in deployments)
    models = {
        name: Model(
            name=name,
            deployments=tuple(
                sorted((d for d in deployments if d.model == name), key=lambda d: d.priority)
            ),
        )
        for name in dict.fromkeys(deployment.model for deployment in deployments)
    }
    catalog = Catalog(
        models=models,
        aliases=_strings(table.get("aliases", {}), "aliases"),
        default_model=table.get("default_model"),
    )
    _refuse_dangling(catalog)
    return catalog


def _deployment(row: Mapping[str, Any]) -> Deployment:
    name = row.get("name", "without a name")
    dialect = DIALECTS.get(str(row.get("provider")))
    if dialect is None:
        message = f"Deployment {name}: there is no provider {row.get('provider')!r}."
        raise Invalid(message, param="provider")
    defaults = {f.name: getattr(dialect.capabilities, f.name) for f in fields(Capabilities)}
    try:
        deployment = _DEPLOYMENT.validate_python(
            {**row, "capabilities": {**defaults, **row.get("capabilities", {})}}
        )
    except (ValidationError, TypeError) as error:
        raise Invalid(_plain(str(name), error), param="deployments") from error
    can = deployment.capabilities
    if can.min_pixels > can.max_pixels or can.multiple_of > can.max_edge:
        message = f"Deployment {name}: its capabilities allow no size at all."
        raise Invalid(message, param="capabilities")
    base_url = (deployment.base_url or dialect.base_url or "").rstrip("/")
    if not base_url and dialect.name != "sketch":
        message = f"Deployment {name}: the provider {dialect.name} needs a base_url."
        raise Invalid(message, param="base_url")
    return replace(
        deployment, base_url=base_url, upstream_model=deployment.upstream_model or deployment.model
    )


_DEPLOYMENT: TypeAdapter[Deployment] = TypeAdapter(Deployment)


def _plain(name: str, error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"Deployment {name}: capabilities must be a table."
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"Deployment {name}: {where}: {first['msg']}."


def _strings(table: object, param: str) -> dict[str, str]:
    if isinstance(table, dict) and all(isinstance(value, str) for value in table.values()):
        return dict(table)
    message = f"The catalog's {param} must map names to names."
    raise Invalid(message, param=param)


def _refuse_unknown(table: Mapping[str, Any]) -> None:
    for name in table.keys() - {"deployments", "aliases", "default_model"}:
        message = f"The catalog has no setting {name}."
        raise Invalid(message, param=name)


def _refuse_duplicates(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            message = f"The catalog has two deployments named {name}."
            raise Invalid(message, param="name")
        seen.add(name)


def _refuse_dangling(catalog: Catalog) -> None:
    for alias, target in catalog.aliases.items():
        if target not in catalog.models:
            message = f"The alias {alias} stands for {target}, which no deployment serves."
            raise Invalid(message, param="aliases")
    if catalog.default_model is not None and catalog.resolve(None) is None:
        message = f"No deployment serves the default model {catalog.default_model}."
        raise Invalid(message, param="default_model")
