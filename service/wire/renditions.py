"""How a rendition is asked for: by the name of a ready recipe, or as one of one's own."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from service.wire.fields import Percent, Wire
from storage.rendition import MOST_AT_ONCE, PRESETS, RESERVED, WIDEST, Recipe


NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"


class RecipeField(Wire):
    """A recipe as it is written in JSON."""

    name: Annotated[StrictStr, Field(pattern=NAME)] = Field(
        description="What the rendition is called; part of its address"
    )
    width: Annotated[StrictInt, Field(ge=16, le=WIDEST)] | None = Field(
        None, description="Pixels at most; the height follows, nothing is enlarged"
    )
    format: Literal["png", "jpeg", "webp"] = "webp"
    quality: Percent | None = Field(None, description="0 to 100, for jpeg and webp")

    @property
    def recipe(self) -> Recipe:
        """Return the recipe."""
        return Recipe(name=self.name, width=self.width, format=self.format, quality=self.quality)


def _named(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"must be one of {', '.join(PRESETS)}, or an object")
    preset = PRESETS[value]
    return {"name": preset.name, "width": preset.width, "format": preset.format}


def _apart(value: tuple[RecipeField, ...]) -> tuple[RecipeField, ...]:
    names = {one.name for one in value}
    if len(names) < len(value):
        raise ValueError("must not hold a name twice")
    if not names.isdisjoint(RESERVED):
        raise ValueError(f"must not be called {' or '.join(sorted(RESERVED))}")
    return value


Recipes = Annotated[
    tuple[Annotated[RecipeField, BeforeValidator(_named)], ...],
    Field(max_length=MOST_AT_ONCE),
    AfterValidator(_apart),
]


class RenditionsRequest(Wire):
    """`POST /v1/jobs/{id}/images/{index}/renditions`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"renditions": ["thumbnail", {"name": "card", "width": 640, "format": "jpeg"}]}
            ]
        }
    )

    renditions: Annotated[Recipes, Field(min_length=1)]
