"""What a client asked for, in our own words."""

import pytest

from storage.request import Input
from tests.samples import a_request


@pytest.mark.parametrize("size", [None, "auto"])
def test_an_open_size_has_no_pixels(size: str | None) -> None:
    assert a_request(size=size).pixels is None


def test_an_exact_size_is_read_as_width_and_height() -> None:
    assert a_request(size="1536x1024").pixels == (1536, 1024)


def test_a_request_with_images_is_an_edit() -> None:
    assert not a_request().is_edit
    assert a_request(images=(Input(key="a"),)).is_edit


def test_the_mask_is_the_last_input() -> None:
    first, second, mask = Input(key="a"), Input(key="b"), Input(key="m")
    assert a_request(images=(first, second)).inputs == (first, second)
    assert a_request(images=(first, second), mask=mask).inputs == (first, second, mask)


def test_nothing_private_is_in_the_text_of_a_request() -> None:
    request = a_request(
        prompt="secret one",
        negative_prompt="secret two",
        options={"word": "secret three"},
        images=(Input(url="https://example.com/?signature=secret4"),),
    )
    assert "secret" not in repr(request)
