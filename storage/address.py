"""Which addresses a stranger may make us talk to.

An image URL or a webhook URL is written by a tenant, and a tenant may write the address of our own
Redis. The rules are here, pure: a URL is parsed once and judged as far as it can be without asking
anybody; the address behind a name is judged again where the socket is made. The ranges are spelled
out because `ipaddress.is_global` differs between versions of Python and says yes to addresses that
carry a private one inside.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from yarl import URL

from storage.errors import Invalid


Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

WEB_PORTS: Final = frozenset({80, 443})
MAX_URL: Final = 4096
MAX_HOST: Final = 253
LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# yarl drops tabs and line ends and tolerates spaces; what is judged must be what was written.
UNSAFE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")

DENIED_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier NAT; Alibaba's metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's host agent, on a public-looking address
            "169.254.0.0/16",  # link-local; cloud metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved and broadcast
        ),
    )
)

# Everything outside of it is local, reserved, multicast or a translation of IPv4.
GLOBAL_V6: Final = IPv6Network("2000::/3")
DENIED_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)

COMPATIBLE: Final = IPv6Network("::/96")
TRANSLATED: Final = tuple(
    map(
        IPv6Network,
        (
            "::ffff:0:0:0/96",  # SIIT
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",  # NAT64 of a local prefix, read as a /96
        ),
    )
)
ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})


def parse_address(text: str) -> Address | None:
    """Return the address that *text* spells in full, or None; a zone id makes it none of ours."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def embedded(address: Address) -> Iterator[IPv4Address]:
    """Yield each IPv4 address that *address* carries for a tunnel or a translator to unwrap."""
    if isinstance(address, IPv4Address):
        return
    low = int(address) & 0xFFFF_FFFF
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    translated = any(address in network for network in TRANSLATED)
    compatible = address in COMPATIBLE and low > 1
    isatap = (int(address) >> 32) & 0xFFFF_FFFF in ISATAP
    if translated or compatible or isatap:
        yield IPv4Address(low)


def is_public(address: Address) -> bool:
    """Return whether *address* is a plain address of the public Internet.

    An IPv4-mapped address is judged as the IPv4 address it is. Any other address that carries an
    IPv4 address inside is not public, whatever it carries.
    """
    plain = unmapped(address)
    if isinstance(plain, IPv4Address):
        return not any(plain in network for network in DENIED_V4)
    if plain not in GLOBAL_V6 or any(plain in network for network in DENIED_V6):
        return False
    return next(embedded(plain), None) is None


def unmapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv4-mapped *address* is, or *address* itself."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, slots=True)
class Allowance:
    """The networks that the operator opens to tenants although they are not public."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Allowance":
        """Read CIDRs or addresses, split by commas or spaces; raises ValueError for a bad one."""
        words = text.replace(",", " ").split()
        return cls(tuple(ipaddress.ip_network(word, strict=False) for word in words))

    def covers(self, address: Address) -> bool:
        """Return whether the operator opened *address*.

        Opening a translator's prefix does not open what is behind it: the IPv4 address inside must
        be public or opened itself.
        """
        plain = unmapped(address)
        return self._lists(plain) and all(
            self._lists(inner) or is_public(inner) for inner in embedded(plain)
        )

    def permits(self, address: Address, port: int, ports: frozenset[int] = WEB_PORTS) -> bool:
        """Return whether a stranger may make us talk to *port* of *address*."""
        return self.covers(address) or (port in ports and is_public(address))

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


NOTHING: Final = Allowance()


def check_url(
    text: str,
    *,
    param: str,
    allow_http: bool,
    ports: frozenset[int] = WEB_PORTS,
    allowance: Allowance = NOTHING,
) -> URL:
    """Return the one reading of *text* that everything after this uses, without its fragment.

    Raises `Invalid` with *param* unless it is an http(s) URL without credentials, to a host that is
    a name or a permitted address. Plain http needs *allow_http*, or an allowance that covers the
    host. What depends on the address behind a name (its network; if anything is allowed, also its
    port and plain http) passes here and must be judged at the socket.
    """
    url = _parsed(text, param)
    address = _address_of(url, param)
    opened = bool(allowance.networks) if address is None else allowance.covers(address)
    if address is not None and not opened and not is_public(address):
        raise Invalid("The URL must point to a public address.", param=param)
    if not url.port or not (opened or url.port in ports):
        raise Invalid("The URL must use a standard port.", param=param)
    if url.scheme != "https" and not (opened or allow_http):
        raise Invalid("The URL must use https.", param=param)
    return url.with_fragment(None)


def _parsed(text: str, param: str) -> URL:
    if not 0 < len(text) <= MAX_URL:
        raise Invalid(f"The URL must have 1 to {MAX_URL} characters.", param=param)
    if UNSAFE.search(text):
        raise Invalid("The URL holds a character that must be escaped.", param=param)
    try:
        url = URL(text)
    except ValueError:
        raise Invalid("The URL cannot be read.", param=param) from None
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise Invalid("The URL must start with https:// or http:// and a host.", param=param)
    if "@" in url.raw_authority:
        raise Invalid("The URL must not hold a user name or a password.", param=param)
    return url


def _address_of(url: URL, param: str) -> Address | None:
    """Return the address that the host of *url* spells, or None for the name of a host."""
    host = (url.raw_host or "").removesuffix(".")
    labels = host.split(".")
    # The system's resolver would read 127.1, 0x7f000001 and 0177.0.0.1 as addresses.
    if ":" in host or labels[-1][:1].isdigit():
        address = parse_address(host)
        if address is None:
            raise Invalid("The URL spells its address in an unusual way.", param=param)
        return address
    if len(host) > MAX_HOST or not all(map(LABEL.fullmatch, labels)):
        raise Invalid("The URL must name a valid host.", param=param)
    return IPv4Address("127.0.0.1") if labels[-1] == "localhost" else None


def without_query(url: str) -> str:
    """Return a URL as others than its receiver may know it: its query may be a password."""
    return url.partition("#")[0].partition("?")[0]
