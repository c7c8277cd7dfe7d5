"""The looks of a picture in a few characters, as others read them."""

import pytest
from PIL import Image

from tests import images
from worker.pixels.blurhash import blurhash, dominant_color


def test_it_is_what_other_encoders_make_of_the_same_picture() -> None:
    data = bytes(v for y in range(32) for x in range(32) for v in (x * 8, y * 8, x * y % 256))
    picture = Image.frombytes("RGB", (32, 32), data)
    assert (
        blurhash(picture) == "LxH2cZ2mwtX3l[WAjve?gFflfTfl"
    )  # as the blurhash package for Python writes it


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_any_shape_has_one(size: tuple[int, int]) -> None:
    assert len(blurhash(images.pixels(size=size))) == 28


@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#c8141e"])
def test_a_picture_of_one_colour_is_of_that_colour(colour: str) -> None:
    assert dominant_color(Image.new("RGB", (50, 20), colour)) == colour


def test_what_covers_most_is_dominant() -> None:
    picture = Image.new("RGB", (100, 100), "#203040")
    picture.paste("#ff0000", (0, 0, 30, 100))
    assert dominant_color(picture) == "#203040"
