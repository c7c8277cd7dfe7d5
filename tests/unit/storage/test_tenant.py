"""Keys: their shape, and who gets in with them."""

import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.tenant import Scope, new_key, presented


KEY, TEXT = new_key("acme", 10.0)
LETTERS = string.ascii_letters + string.digits + "_-"


def test_a_new_key_admits_its_own_text() -> None:
    shown = presented(TEXT)
    assert shown is not None
    assert shown.id == KEY.id
    assert KEY.admits(shown)


def test_a_key_admits_no_other() -> None:
    shown = presented(new_key("acme", 10.0)[1])
    assert shown is not None
    assert not KEY.admits(shown)


def test_the_prefix_can_be_found_by_scanners_of_secrets() -> None:
    assert TEXT.startswith("dk_live_")
    assert new_key("acme", 1.0, environment="test")[1].startswith("dk_test_")


def test_the_text_of_a_key_is_not_in_its_record() -> None:
    secret = TEXT.split("_", 3)[3].rpartition("_")[0]
    assert secret not in repr(KEY)


def test_keys_do_not_repeat() -> None:
    assert len({new_key("acme", 1.0)[1] for _ in range(500)}) == 500


@given(st.integers(0, len(TEXT) - 1), st.sampled_from(LETTERS))
def test_a_typo_in_any_place_is_refused_without_a_look_up(at: int, letter: str) -> None:
    mistyped = TEXT[:at] + letter + TEXT[at + 1 :]
    assert (presented(mistyped) is None) == (mistyped != TEXT)


@given(st.integers(0, len(TEXT) - 2))
def test_two_letters_changed_about_are_refused(at: int) -> None:
    turned = TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :]
    assert (presented(turned) is None) == (turned != TEXT)


@given(st.integers(0, len(TEXT) - 1))
def test_a_key_that_was_cut_is_refused(length: int) -> None:
    assert presented(TEXT[:length]) is None
    assert presented(TEXT[length:] if length else "") is None


@given(st.text(max_size=200))
def test_what_is_no_key_is_refused(text: str) -> None:
    assert presented(text) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.upper(),
        lambda text: text + "0",
        lambda text: text * 100,
        lambda text: text[:0],
    ],
    ids=["line end", "space", "capitals", "longer", "far too long", "nothing"],
)
def test_a_key_with_anything_around_it_is_refused(spoil: Callable[[str], str]) -> None:
    assert presented(spoil(TEXT)) is None


def test_a_key_is_live_until_it_expires_or_is_revoked() -> None:
    key, _ = new_key("acme", 10.0)
    assert key.is_live(1e12)
    assert not key.revoked(20.0).is_live(15.0)


def test_the_first_revocation_counts() -> None:
    assert KEY.revoked(20.0).revoked(30.0).revoked_at == 20.0


def test_a_new_key_may_submit_and_read_and_no_more() -> None:
    assert KEY.scopes == (Scope.SUBMIT, Scope.READ)
    assert (KEY.tenant, KEY.created_at) == ("acme", 10.0)
