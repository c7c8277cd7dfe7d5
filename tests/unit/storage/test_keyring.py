"""Keys are replaced without a gap, and not without end."""

import pytest

from storage.errors import Conflict
from storage.keyring import LONGEST_OVERLAP, MOST_KEYS, Keyring, SigningKey
from tests.samples import NOW


def key(name: str, at: float = NOW) -> SigningKey:
    return SigningKey(id=name, sealed="sealed", public="public", created_at=at)


def ring() -> Keyring:
    return Keyring(id="wr_1", keys=(key("old"),))


def names(keyring: Keyring, now: float) -> list[str]:
    return [one.id for one in keyring.live(now)]


def test_both_keys_sign_during_the_overlap_and_the_new_one_alone_after_it() -> None:
    rotated = ring().rotated(key("new"), NOW, overlap=LONGEST_OVERLAP)
    assert rotated.current.id == "new"
    assert names(rotated, NOW + LONGEST_OVERLAP - 1) == ["new", "old"]
    assert names(rotated, NOW + LONGEST_OVERLAP) == ["new"]


def test_without_overlap_the_old_key_signs_nothing_more() -> None:
    rotated = ring().rotated(key("new"), NOW, overlap=0)
    assert [one.id for one in rotated.keys] == ["new"]


def test_a_later_rotation_never_makes_an_older_key_live_longer() -> None:
    twice = ring().rotated(key("b"), NOW, overlap=100).rotated(key("c"), NOW + 10, overlap=500)
    assert names(twice, NOW + 99) == ["c", "b", "old"]
    assert names(twice, NOW + 100) == ["c", "b"]
    hasty = ring().rotated(key("b"), NOW, overlap=500).rotated(key("c"), NOW + 10, overlap=20)
    assert names(hasty, NOW + 30) == ["c"]


def test_expired_keys_are_dropped() -> None:
    rotated = ring().rotated(key("b"), NOW, overlap=5).rotated(key("c"), NOW + 6, overlap=50)
    assert [one.id for one in rotated.keys] == ["c", "b"]


def test_no_more_than_five_keys_sign_at_one_time() -> None:
    keyring = ring()
    for at in range(MOST_KEYS - 1):
        keyring = keyring.rotated(key(f"{at}"), NOW, overlap=100)
    with pytest.raises(Conflict):
        keyring.rotated(key("more"), NOW, overlap=100)
    assert names(keyring.rotated(key("more"), NOW, overlap=0), NOW) == ["more"]


def test_what_is_sealed_is_not_in_the_text() -> None:
    assert "sealed" not in repr(ring())
