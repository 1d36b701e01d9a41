"""What is left of addresses, coordinates and dates."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ttf.pii.coarse import TRUNCATIONS, truncate_date, truncate_geo, truncate_ip


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("192.0.2.77:443", "192.0.2.0"),
        (" 192.0.2.77 ", "192.0.2.0"),
        ("1.2.3.4, 5.6.7.8", "1.2.3.0, 5.6.7.0"),
        ("1.2.3.4,2001:db8:1:2::3", "1.2.3.0, 2001:db8:1::"),
        ("2001:db8:1:2::3", "2001:db8:1::"),
        ("[2001:db8::1]:443", "2001:db8::"),
        ("[2001:db8::1]", "2001:db8::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.77", "::ffff:192.0.2.0"),
        ("192.0.2.77/32", "192.0.2.0/24"),
        ("10.1.2.3/8", "10.1.2.0/8"),
        ("2001:db8:1:2::3/64", "2001:db8:1::/48"),
        ("", None),
        ("unknown", None),
        ("1.2.3.4, unknown", None),
        ("1.2.3.4,", None),
        ("host.example.com", None),
        ("1.2.3", None),
        ("1.2.3.400", None),
        ("1.2.3.4/33", None),
        ("01.2.3.4", None),
        ("１.2.3.4", None),
        ("[IP]", None),
        ("/tmp/app.sock", None),
    ],
)
def test_addresses(text, left):
    assert truncate_ip(text) == left


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("52.5200", "52.5"),
        ("-0.04", "0.0"),
        ("13", "13"),
        ("+13.45", "13.4"),
        ("52.5200, 13.4050", "52.5, 13.4"),
        ("52.52;13.4", "52.5;13.4"),
        (52.5200, 52.5),
        (-0.04, 0.0),
        (13, 13),
        (525200000, None),
        (float("nan"), None),
        (float("inf"), None),
        ("", None),
        ("52.52,", None),
        ("52.52N", None),
        ("1e1", None),
        ("999.1", None),
        ("[LOCATION]", None),
    ],
)
def test_coordinates(value, left):
    got = truncate_geo(value)
    assert got == left
    assert got is None or type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("1984-03-12", "1984"),
        ("1984-03-12T10:20:30Z", "1984"),
        ("1984-03-12 10:20:30.123+01:00", "1984"),
        ("19840312", "1984"),
        ("1984/03/12", "1984"),
        ("1984-03", "1984"),
        ("1984", "1984"),
        ("12.03.1984", "1984"),
        ("3/12/1984", "1984"),
        ("25/12/1984", "1984"),
        ("12 March 1984", "1984"),
        ("March 12th, 1984", "1984"),
        ("12. März 1984", "1984"),
        ("1984-13-12", None),
        ("1984-02-30", None),
        ("25/25/1984", None),
        ("12/03/84", None),
        ("0312", None),
        ("2500-01-01", None),
        ("yesterday", None),
        ("[DATE]", None),
        ("", None),
    ],
)
def test_dates(text, left):
    assert truncate_date(text) == left


addresses = st.ip_addresses().map(str)
texts = st.one_of(
    addresses,
    st.lists(addresses, min_size=1, max_size=3).map(", ".join),
    addresses.map(lambda text: f"[{text}]:80" if ":" in text else f"{text}:80"),
    addresses.map(lambda text: f"{text}/24"),
    st.floats(-360, 360).map("{:.4f}".format),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(lambda pair: f"{pair[0]:.5f},{pair[1]:.5f}"),
    st.dates().map(str),
    st.dates().map("{:%d.%m.%Y}".format),
    st.text("0123456789.:,/-[] +T%", max_size=20),
)


@pytest.mark.parametrize("how", sorted(TRUNCATIONS))
@given(text=texts)
def test_truncating_twice_is_truncating_once(how, text):
    once = TRUNCATIONS[how](text)
    if once is not None:
        assert TRUNCATIONS[how](once) == once


@given(st.floats() | st.integers())
def test_numbers_stay_numbers_of_their_type(value):
    once = truncate_geo(value)
    if once is not None:
        assert type(once) is type(value)
        assert truncate_geo(once) == once


@given(st.ip_addresses())
def test_every_address_loses_its_end(address):
    left = truncate_ip(str(address))
    kept = 24 if address.version == 4 else 120 if address.ipv4_mapped else 48
    assert ipaddress.ip_address(left) in ipaddress.ip_network(f"{address}/{kept}", strict=False)
    assert int(ipaddress.ip_address(left)) % (1 << (address.max_prefixlen - kept)) == 0
