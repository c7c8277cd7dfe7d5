"""Bills as pure values."""

import pytest

from storage.bill import Entry, day_of, days_between, entry_of, nano_of, seconds_left
from tests.samples import NOW, a_job


def test_a_day_is_one_of_utc() -> None:
    assert day_of(0.0) == "1970-01-01"
    assert day_of(86_399.9) == "1970-01-01"
    assert day_of(86_400.0) == "1970-01-02"


def test_days_are_listed_with_both_ends() -> None:
    assert days_between("2028-02-28", "2028-03-01") == ["2028-02-28", "2028-02-29", "2028-03-01"]
    assert days_between("2028-03-01", "2028-02-28") == []


@pytest.mark.parametrize("text", ["", "today", "2028-13-01", "2028-02-30"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month|day"):
        days_between(text, "2028-03-01")


def test_a_day_ends_at_midnight() -> None:
    assert seconds_left(86_400.0 + 3600) == 82_800.0
    assert seconds_left(86_400.0) == 86_400.0


def test_money_is_counted_in_billionths() -> None:
    assert nano_of(0.1) + nano_of(0.2) == nano_of(0.3)
    assert nano_of(None) == 0


def test_only_an_end_is_billed() -> None:
    job = a_job()
    assert entry_of(job, job.claimed("run", NOW)) is None
    ended = job.cancelled(NOW)
    assert entry_of(job, ended) == Entry(jobs=1, images=0, unknown=0, nano=0, risk=0)
    assert entry_of(ended, ended) is None
