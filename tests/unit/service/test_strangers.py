import pytest

from service.strangers import MOST_REMEMBERED, Strangers, address_of
from storage.address import Allowance


PROXIES = Allowance.parse("10.0.0.0/8, ::1").networks


class TestTries:
    def test_so_many_may_fail_in_a_minute(self) -> None:
        strangers = Strangers(3)
        for _ in range(3):
            assert strangers.wait("a", 1000.0) == 0
            strangers.failed("a", 1000.0)
        assert strangers.wait("a", 1000.0) == pytest.approx(20)
        assert strangers.wait("a", 1019.9) > 0
        assert strangers.wait("a", 1020.1) == 0

    def test_addresses_are_counted_apart(self) -> None:
        strangers = Strangers(1)
        strangers.failed("a", 1000.0)
        assert strangers.wait("a", 1000.0) > 0
        assert strangers.wait("b", 1000.0) == 0

    def test_only_so_many_addresses_are_remembered(self) -> None:
        strangers = Strangers(1)
        for number in range(MOST_REMEMBERED + 10):
            strangers.failed(str(number), 1000.0)
        assert strangers.wait("9", 1000.0) == 0
        assert strangers.wait("10", 1000.0) > 0
        assert strangers.wait(str(MOST_REMEMBERED), 1000.0) > 0


class TestAddresses:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("192.0.2.1", [], "192.0.2.1"),
            ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # nobody's proxy: it may say what it likes
            ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
            ("10.0.0.1", [""], "10.0.0.1"),
            ("::1", ["203.0.113.9"], "203.0.113.9"),
            ("::ffff:192.0.2.1", [], "192.0.2.1"),
            ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
            ("fe80::1%eth0", [], "fe80::/64"),
            ("10.0.0.1", ["2001:db8:1:2::9"], "2001:db8:1:2::/64"),
            (None, [], ""),
            ("", ["203.0.113.9"], ""),
        ],
    )
    def test_it_is_the_last_that_no_trusted_proxy_has(
        self, peer: str | None, forwarded: list[str], address: str
    ) -> None:
        assert address_of(peer, forwarded, PROXIES) == address

    def test_without_trusted_proxies_nothing_is_believed(self) -> None:
        assert address_of("10.0.0.1", ["203.0.113.9"], ()) == "10.0.0.1"
