import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.cursor import cursor_of, place_of
from storage.errors import Invalid


@given(st.integers(0, 2**53), st.text(st.characters(categories=["L", "N"]), max_size=64))
def test_a_cursor_gives_back_its_place_and_fits_into_an_address(at: int, thing_id: str) -> None:
    cursor = cursor_of(at, thing_id)
    assert place_of(cursor, things="jobs") == (at, thing_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "text",
    ["", "a", "%", "ééé", "job_1", base64.urlsafe_b64encode(b"x:job_1").decode(), "//8=", "\x00"],
)
def test_what_no_list_gave_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(Invalid, match="not given by a list of jobs") as caught:
        place_of(text, things="jobs")
    assert (caught.value.param, caught.value.code) == ("cursor", "invalid_cursor")
