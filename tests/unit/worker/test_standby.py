"""Jobs that stand ready before one gate."""

from worker.standby import BRIEF, LONGEST, Standby


def brief() -> Standby:
    standby = Standby()
    standby.took(1.0)
    return standby


def test_nobody_is_wanted_before_it_is_known_that_calls_are_brief() -> None:
    assert Standby().room(4, 0.0) == 0
    assert brief().room(4, 0.0) == 2
    assert brief().room(0, 0.0) == 0


def test_a_call_that_takes_long_ends_it_and_brief_ones_begin_it_again() -> None:
    standby = brief()
    standby.took(10 * BRIEF)
    assert standby.room(4, 0.0) == 0
    for _ in range(10):
        standby.took(1.0)
    assert standby.room(4, 0.0) == 2


def test_who_was_taken_leaves_less_room_until_it_has_its_answer() -> None:
    standby = brief()
    standby.take("a", 0.0)
    standby.take("b", 0.0)
    assert (standby.has("a"), standby.room(4, 1.0)) == (True, 0)
    standby.answer("a", 1.0, passed=True)
    assert (standby.has("a"), standby.room(4, 1.0)) == (False, 1)


def test_who_never_asked_for_its_place_is_forgotten() -> None:
    standby = brief()
    standby.take("a", 0.0)
    assert standby.room(2, 2 * LONGEST) == 1


def test_that_a_job_got_no_place_is_said_once() -> None:
    standby = brief()
    standby.take("a", 0.0)
    standby.answer("a", 1.0, passed=False)
    assert [standby.turned_away("a"), standby.turned_away("a")] == [True, False]


async def test_places_go_to_those_who_stand_in_their_order() -> None:
    standby = brief()
    gone, first, second = (standby.stand() for _ in range(3))
    gone.cancel()
    assert standby.hand("place")
    assert (first.result(), second.done()) == ("place", False)
    standby.send_away()
    assert second.cancelled()
    assert not standby.hand("place")


def test_whoever_has_most_places_leaves_some_to_others() -> None:
    standby = brief()
    assert [standby.shares(4, 7) for _ in range(16)].count(True) == 2
    assert not any(standby.shares(3, 7) for _ in range(8))
