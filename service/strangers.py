"""Strangers: addresses that try keys which do not open, and how long they are not listened to.

It is counted inside the process and by address, and only so many addresses are remembered: whoever
has more than that is not stopped by counting. Behind a proxy every client has the proxy's address,
so `X-Forwarded-For` is read, but only as far as proxies that the operator trusts have written it.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from storage.address import Address, Network, unmapped


MOST_REMEMBERED: Final = 10_000
_NEIGHBOURS: Final = 64  # bits: whoever has one IPv6 address has a whole network of them


class Strangers:
    """Counts tries that failed: an address has `per_minute` at once, and then one by one."""

    def __init__(self, per_minute: int) -> None:
        self._interval = 60.0 / per_minute
        self._burst = per_minute
        self._moments: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Return the seconds until a try from the address is listened to again; 0 for now."""
        moment = self._moments.get(address, 0.0)
        return max(0.0, moment - (self._burst - 1) * self._interval - now)

    def failed(self, address: str, now: float) -> None:
        """Count a try that failed."""
        moment = max(self._moments.pop(address, 0.0), now)
        self._moments[address] = moment + self._interval
        if len(self._moments) > MOST_REMEMBERED:
            self._moments.popitem(last=False)


def address_of(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return where a request comes from: the last address that no trusted proxy has.

    `peer` is who is connected and `forwarded` holds every `X-Forwarded-For`, in order.
    """
    found = _read(peer or "")
    hops = [hop for line in forwarded for hop in line.split(",")]
    while hops and found is not None and any(found in network for network in trusted):
        written = _read(hops.pop())
        if written is None:
            break
        found = written
    return "" if found is None else _name(found)


def _read(text: str) -> Address | None:
    try:
        return unmapped(ipaddress.ip_address(text.strip().partition("%")[0]))
    except ValueError:
        return None


def _name(address: Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _NEIGHBOURS), strict=False))
