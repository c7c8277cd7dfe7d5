"""Addresses and URLs, row by row: edges of each range, ways to carry IPv4, ways to spell it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.address import (
    Allowance,
    check_url,
    embedded,
    is_public,
    parse_address,
    without_query,
)
from storage.errors import Invalid


# The first and last address inside of each denied range, and some with a name, ...
PRIVATE_V4 = """
    0.0.0.0 0.0.0.1 0.255.255.255
    10.0.0.0 10.1.2.3 10.255.255.255
    100.64.0.0 100.100.100.200 100.127.255.255
    127.0.0.0 127.0.0.1 127.1.1.1 127.255.255.255
    168.63.129.16
    169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255
    172.16.0.0 172.17.0.1 172.31.255.255
    192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.192 192.0.0.255
    192.0.2.0 192.0.2.255
    192.88.99.0 192.88.99.1 192.88.99.255
    192.168.0.0 192.168.1.1 192.168.255.255
    198.18.0.0 198.19.255.255
    198.51.100.0 198.51.100.255
    203.0.113.0 203.0.113.255
    224.0.0.0 224.0.0.1 239.255.255.250 239.255.255.255
    240.0.0.0 250.1.2.3 255.255.255.254 255.255.255.255
"""

# ... and the neighbours outside of it.
PUBLIC_V4 = """
    1.0.0.0 1.1.1.1 8.8.8.8
    9.255.255.255 11.0.0.0
    100.63.255.255 100.128.0.0
    126.255.255.255 128.0.0.0
    168.63.129.15 168.63.129.17
    169.253.255.255 169.255.0.0
    172.15.255.255 172.32.0.0
    191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0
    192.88.98.255 192.88.100.0
    192.167.255.255 192.169.0.0
    198.17.255.255 198.20.0.0
    198.51.99.255 198.51.101.0
    203.0.112.255 203.0.114.0
    223.255.255.255
"""

PRIVATE_V6 = """
    :: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::ffff:ffff
    ::1:0:0 ::fffe:ffff:ffff
    ::ffff:0.0.0.0 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
    ::ffff:168.63.129.16 ::ffff:255.255.255.255 0:0:0:0:0:ffff:c0a8:101
    ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8
    64:ff9b:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::8.8.8.8 64:ff9b::ffff:ffff
    64:ff9b:1:: 64:ff9b:1::7f00:1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff
    100:: 100::ffff:ffff:ffff:ffff 100:0:0:1::
    1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    2001:: 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:ffff:ffff:ffff:ffff:ffff:ffff
    2001:1:: 2001:2:: 2001:10:: 2001:20:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff
    2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
    2002:: 2002:7f00:1:: 2002:808:808:: 2002:a9fe:a9fe::1 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    2600::5efe:10.0.0.1 2600::5efe:8.8.8.8 2600::200:5efe:127.0.0.1 2600:1:2:3:200:5efe:808:808
    3fff:: 3fff::1 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff
    4000:: 5f00:: 5f00::1 5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff 8000::1
    fc00:: fd00::1 fd00:ec2::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    fe00::1 fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    fe80:: fe80::1 fe80::5efe:192.168.0.1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    fec0:: fec0::1 feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    ff00:: ff02::1 ff05::2 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
"""

PUBLIC_V6 = """
    ::ffff:8.8.8.8 ::ffff:808:808 ::ffff:1.0.0.0 ::ffff:223.255.255.255
    2000:: 2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    2001:200:: 2001:4860:4860::8888 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9::
    2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    2003:: 2606:4700:4700::1111 2a00:1450:4001:81b::200e 2600::5eff:10.0.0.1 2600::100:5efe:a00:1
    3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff:1000:: 3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
"""

ROWS = [
    *((address, False) for address in (PRIVATE_V4 + PRIVATE_V6).split()),
    *((address, True) for address in (PUBLIC_V4 + PUBLIC_V6).split()),
]


@pytest.mark.parametrize(("spelling", "public"), ROWS)
def test_an_address_is_public_or_not_at_both_edges_of_each_range(
    spelling: str, public: bool
) -> None:
    assert is_public(ipaddress.ip_address(spelling)) is public


def test_the_table_is_long_enough_to_trust_and_says_nothing_twice() -> None:
    assert len(ROWS) >= 150
    assert len({row for row, _ in ROWS}) == len(ROWS)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_and_its_mapped_form_are_judged_alike(
    address: ipaddress.IPv4Address,
) -> None:
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | int(address))
    assert is_public(mapped) is is_public(address)


@given(st.ip_addresses())
def test_nothing_public_here_is_unroutable_to_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    assert not is_public(address) or not (
        plain.is_private or plain.is_loopback or plain.is_link_local or plain.is_multicast
    )


@pytest.mark.parametrize(
    "spelling",
    """
    127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0 00000177.1 127.0.0.1. 127.0.0.1%lo
    fe80::1%lo fe80::1%25lo ::1% 1.2.3.256 1.2.3 1.2.3.4.5 [::1] localhost ①②⑦.⓪.⓪.① ١٢٧.0.0.1
    """.split(),  # noqa: SIM905 — the spellings are easier to compare without quotes
)
def test_only_a_full_and_plain_spelling_is_an_address(spelling: str) -> None:
    assert parse_address(spelling) is None


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("8.8.8.8", []),
        ("2606:4700::1", []),
        ("::", []),
        ("::1", []),
        ("::127.0.0.1", ["127.0.0.1"]),
        ("::ffff:0:10.0.0.1", ["10.0.0.1"]),
        ("64:ff9b::10.0.0.1", ["10.0.0.1"]),
        ("64:ff9b:1::10.0.0.1", ["10.0.0.1"]),
        ("2002:a9fe:a9fe::", ["169.254.169.254"]),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", ["65.54.227.120", "192.0.2.45"]),
        ("2600::5efe:10.0.0.1", ["10.0.0.1"]),
        ("2600::200:5efe:10.0.0.1", ["10.0.0.1"]),
    ],
)
def test_ipv4_is_unwrapped_from_each_way_to_carry_it(address: str, inside: list[str]) -> None:
    assert [str(inner) for inner in embedded(ipaddress.ip_address(address))] == inside


@pytest.mark.parametrize(
    ("networks", "address", "port", "permitted"),
    [
        ("", "8.8.8.8", 443, True),
        ("", "8.8.8.8", 80, True),
        ("", "8.8.8.8", 22, False),
        ("", "127.0.0.1", 443, False),
        ("127.0.0.1", "127.0.0.1", 9999, True),
        ("127.0.0.1", "127.0.0.2", 443, False),
        ("127.0.0.1", "::ffff:127.0.0.1", 9999, True),
        ("127.0.0.1", "::1", 443, False),
        ("127.0.0.1/8, ::1", "::1", 9999, True),
        ("10.0.0.0/8 192.168.0.0/16", "192.168.3.4", 9000, True),
        ("10.0.0.0/8", "64:ff9b::10.0.0.1", 80, False),
        ("10.0.0.0/8", "8.8.8.8", 9000, False),
        ("64:ff9b::/96", "64:ff9b::8.8.8.8", 443, True),
        ("64:ff9b::/96", "64:ff9b::169.254.169.254", 443, False),
        ("64:ff9b::/96 10.0.0.0/8", "64:ff9b::10.0.0.1", 443, True),
        ("::/0", "2002:7f00:1::", 443, False),
        ("0.0.0.0/0", "169.254.169.254", 1, True),
    ],
)
def test_an_allowance_opens_what_it_names_and_no_more(
    networks: str, address: str, port: int, permitted: bool
) -> None:
    allowance = Allowance.parse(networks)
    assert allowance.permits(ipaddress.ip_address(address), port) is permitted


@pytest.mark.parametrize("text", ["10.0.0.0/33", "localhost", "10.0.0.0/8;::1", "10/8"])
def test_an_allowance_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text[:4]):
        Allowance.parse(text)


def refusal(text: str, *, allow_http: bool = True, networks: str = "") -> str:
    with pytest.raises(Invalid) as caught:
        check_url(
            text, param="webhook_url", allow_http=allow_http, allowance=Allowance.parse(networks)
        )
    assert caught.value.param == "webhook_url"
    assert len(text) < 8 or text not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "example.com",
        "//example.com/a",
        "http:example.com",
        "http:/example.com",
        "http://",
        "http:///path",
        "https://?a=b",
        "https://:443/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "dict://example.com:11211/",
        "data:image/png;base64,AAAA",
        "jar:http://example.com!/",
        "javascript:alert(1)",
        "ws://example.com/",
        "unix://run/redis.sock",
        "http+unix://run/redis.sock",
        "http://[::1",
        "http://::1/",
        "http://[1.2.3.4]/",
        "http://good@example.com/",
        "http://good:word@example.com/",
        "http://:@example.com/",
        "http://a@b@example.com/",
        "http://good:80+&@example.com:22/#+@good",
        "http://good\\@example.com/",
        "http://example.com\\path",
        "http://exa\tmple.com/",
        "http://example.com/\r\nHost: other",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/\x00",
        "http://exa\x00mple.com/",
        "http://exa%00mple.com/",
        "http://ex%61mple.com/",
        "http://exam\u200bple.com/",
        "http://example.com/\u2028",
        "http://example.com/\x85",
        "http://example.com/\ud800",
        "http://ex ample.com/",
        "http://ex+ample.com/",
        "http://foo..com/",
        "http://.com/",
        "http://-a.com/",
        "http://a-.com/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 127 + "com/",
        "http://" + "\u00fc" * 60 + ".com/",
        "http://example.com:22/",
        "http://example.com:25/",
        "http://example.com:6379/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:8o/",
        "http://8.8.8.8:8080/",
        "https://example.com/" + "a" * 4096,
    ],
)
def test_a_url_that_is_not_plainly_a_public_web_address_is_refused(text: str) -> None:
    refusal(text)


SPELLINGS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0X7F000001",
    "0177.0.0.1",
    "017700000001",
    "00000177.1",
    "0",
    "0.0.0.0",
    "127.0.0.1.0x0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:7f00:1]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "١٢٧.0.0.1",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "ⓛocalhost",
    "any.localhost",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "255.255.255.255",
    "224.0.0.1",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_private_address_passes(host: str) -> None:
    refusal(f"https://{host}/")
    refusal(f"https://{host}:443/hook?x=1#y")


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://EXAMPLE.com/Hook?b=1&a=2#frag", "https://example.com/Hook?b=1&a=2"),
        ("http://example.com/a%20b", "http://example.com/a%20b"),
        ("http://@example.com/", "http://example.com/"),
        ("http://[v1.a]/", "http://v1.a/"),
        ("https://example.com./", "https://example.com./"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://☃.example/é", "https://xn--n3h.example/%C3%A9"),
        ("https://a_b.example/", "https://a_b.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
        ("https://[::ffff:8.8.8.8]/", "https://[::ffff:808:808]/"),
        ("https://example.com/a@b?u=c@d", "https://example.com/a@b?u=c@d"),
        ("https://hooks/", "https://hooks/"),
    ],
)
def test_a_good_url_has_one_reading(text: str, reading: str) -> None:
    url = check_url(text, param="url", allow_http=True)
    assert str(url) == reading
    assert str(check_url(reading, param="url", allow_http=True)) == reading


def test_plain_http_needs_a_setting_or_an_open_network() -> None:
    assert "https" in refusal("http://example.com/", allow_http=False)
    assert "https" in refusal("http://8.8.8.8/", allow_http=False, networks="127.0.0.1")
    for text, networks in (
        ("http://127.0.0.1:9999/hook", "127.0.0.1"),
        ("http://localhost:9999/hook", "127.0.0.0/8"),
        ("http://[::1]:9999/hook", "::1"),
        ("http://receiver.example:9999/hook", "10.0.0.0/8"),
    ):
        allowance = Allowance.parse(networks)
        check_url(text, param="url", allow_http=False, allowance=allowance)


def test_an_open_network_opens_no_other() -> None:
    refusal("http://127.0.0.2:9999/", networks="127.0.0.1")
    refusal("http://localhost:9999/", networks="10.0.0.0/8")
    refusal("https://8.8.8.8:9999/", networks="10.0.0.0/8")
    refusal("http://127.0.0.1:0/", networks="127.0.0.1")
    refusal("http://127.1:9999/", networks="127.0.0.1")


@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    for candidate in (text, "https://" + text):
        try:
            url = check_url(candidate, param="url", allow_http=False)
        except Invalid:
            continue
        assert url.scheme == "https"
        assert url.raw_host


@pytest.mark.parametrize("rest", ["", "?a=b", "?a=b#c?d", "#c?d", "??"])
def test_a_url_is_shown_to_others_without_what_follows_its_path(rest: str) -> None:
    assert without_query("https://example.com/a/b" + rest) == "https://example.com/a/b"
