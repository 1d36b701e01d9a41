"""Addresses of machines that people sit at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address, ip_network
from typing import ClassVar

from otel_ttf.pii.action import Action
from otel_ttf.pii.detect.around import before, free_after, free_before, listed, words_before
from otel_ttf.pii.detect.base import Detector, Span

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = re.compile(rf"(?<![0-9]){_OCTET}(?:\.{_OCTET}){{3}}(?![0-9])")
# Groups of a v6 address, the last of which may be a v4 address.
_V6 = re.compile(r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:]*(?:\.[0-9]{1,3}){0,3}")
_PREFIX = re.compile(r"/([0-9]{1,3})(?![0-9A-Za-z./])")

_FIRST_MULTICAST = 224
# Of no machine that can be told from others: of networks of one's own, of groups.
_SPECIAL_V6 = tuple(map(ip_network, ("::/8", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8")))
_MAPPED = re.compile(r"(?:::ffff:|64:ff9b::)(?=[0-9]+\.)", re.IGNORECASE)

# Words before an address, and words before the number of a version or of an object.
_ADDRESS_WORDS = frozenset(
    listed("""
    ip ips ipv4 ipv6 addr address addresses adresse dirección direccion indirizzo client peer remote host hostname
    from src source dst dest destination forwarded origin caller visitor real connecting sender blocked banned ban
    gateway nameserver resolver dns ping
    """)
)
_VERSION_WORDS = frozenset(
    listed("""
    v ver vers version versions release rel build rev revision firmware fw driver oid snmp patch update upgrade
    upgraded kernel sdk api schema chart protocol agent tag package library lib plugin module assembly runtime
    engine chrome chromium crios edge edg opr opera firefox fxios safari webkit trident gecko headless electron
    cef numpy python node java jdk jre php ruby postgres postgresql mysql mariadb redis nginx apache oracle
    windows android ios macos dotnet clr
    """)
)
# Upgrade from 1.2.3.4 to, version is, version number.
_LINKS = frozenset(listed("is to from number no of"))
_IDS = frozenset(
    listed("trace traceid span spanid hash digest fingerprint guid uuid checksum sha md5 etag eui wwn")
)
_GROUPS = 8
# Numbers of versions are small, all of them.
_SMALL = 64
# Of what has numbers for names (ITU X.660), in four steps.
_OBJECT = re.compile(r"(?:2\.5\.|1\.3\.6\.|1\.2\.8)")


class Ip(Detector):
    """IPv4 and IPv6 addresses of the internet; not private and special ones, networks, and versions."""

    name: ClassVar[str] = "ip"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "IP"
    default: ClassVar[Action] = "truncate"
    dotted: ClassVar[bool] = True
    # No 10.x, which networks of one's own are full of. In two, since it costs half as much.
    supersets: ClassVar[tuple[str, ...]] = (
        r"[1-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        r"(?:[2-9]0|1[0-9]0|2[0-2]0)\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        r"[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{1,4}:){0,5}:",
        # One for each digit before the first colon: without two letters to look for, all would cost a tenth more.
        *(rf"{digit}:(?:[0-9A-Fa-f]{{1,4}}:){{6}}[0-9A-Fa-f]" for digit in "0123456789abcdef"),
    )

    def find(self, text: str) -> Iterator[Span]:
        if text.count(":") < 2:
            yield from _v4(text, 0, len(text))
            return
        done = 0
        for match in _V6.finditer(text):
            span = _v6(text, *match.span())
            if span is not None:
                yield from _v4(text, done, span[0])
                yield span
                done = span[1]
            elif (
                match[0].count(":") >= _GROUPS
            ):  # too long for an address, and so is what is left without its end
                yield from _v4(text, done, match.start())
                done = match.end()
        yield from _v4(text, done, len(text))

    def canonical(self, found: str) -> str:
        # Under a key of addresses there may stand anything: a host name, a socket.
        try:
            return str(_address(found.strip()))
        except ValueError:
            return found

    def truncated(self, found: str) -> str | None:
        """The network of 256 addresses (v4), or of a site (v6, /48)."""
        try:
            address = _address(found.strip())
        except ValueError:
            return None
        return str(ip_network((address, 24 if address.version == 4 else 48), strict=False).network_address)


def _address(found: str) -> IPv4Address | IPv6Address:
    address = ip_address(found)
    return getattr(address, "ipv4_mapped", None) or address


def _v4(text: str, start: int, end: int) -> Iterator[Span]:
    if text.count(".", start, end) < 3:
        return
    for match in _V4.finditer(text, start, end):
        if _is_public(match[0]) and _is_host(text, *match.span()):
            yield match.span()


def _is_public(dotted: str) -> bool:
    """Whether it is of a host in the internet, and not of a network or a group of networks (RFC 6890)."""
    first, second, third, last = map(int, dotted.split("."))
    if first in (0, 10, 127) or first >= _FIRST_MULTICAST or third == last == 0:
        return False
    return not (
        (first == 100 and 64 <= second < 128)
        or (first == 169 and second == 254)
        or (first == 172 and 16 <= second < 32)
        or (first == 192 and second == 168)
    )


def _is_host(text: str, start: int, end: int) -> bool:
    """Whether an address stands there by itself, and not a version or a network."""
    if not free_before(text, start) or _is_network(text, start, end):
        return False
    one, further = before(text, start)
    after, next_one = text[end : end + 1], text[end + 1 : end + 2]
    if (
        after.isalpha()
        or (after and after in ".+~" and next_one.isalnum())
        or (one == "." and further.isalnum())
    ):
        return False
    if after == "-" and next_one.isalnum() and not _V4.match(text, end + 1):
        return False
    if one == "-" and further.isalnum():
        if not _ends_in_address(text[max(0, start - 16) : start - 1]):
            return False
    # Chrome/126.0.0.0, but http://203.0.113.7
    elif (one == "/" and further.isalpha()) or one in ("+", "^", "~"):
        return False
    words = words_before(text, start)
    word = words[0] if words else ""
    if word in _ADDRESS_WORDS:
        return True
    if word in _VERSION_WORDS or (
        word in ("is", "to", "number", "no") and _VERSION_WORDS.intersection(words[1:3])
    ):
        return False
    return any(int(octet) >= _SMALL for octet in text[start:end].split(".")) and not _OBJECT.match(
        text, start
    )


_LAST_ADDRESS = re.compile(rf"(?<![0-9.]){_OCTET}(?:\.{_OCTET}){{3}}$")


def _ends_in_address(text: str) -> bool:
    return _LAST_ADDRESS.search(text) is not None


def _is_network(text: str, start: int, end: int) -> bool:
    """Whether the length of a prefix follows, and nothing of the address is outside of it, or the last octet is 0."""
    prefix = _PREFIX.match(text, end)
    if prefix is None:
        return False
    if text.endswith(".0", start, end) and int(prefix[1]) <= 24:
        return True
    try:
        network = ip_network(f"{text[start:end]}{prefix[0]}")
    except ValueError:
        return False
    return network.prefixlen < network.max_prefixlen


def _v6(text: str, start: int, end: int) -> Span | None:
    """The address in a run of hexadecimal digits and colons; a colon may stand before and after it."""
    # key:2001:db8::1 and 2001:db8::1: are an address and a colon.
    if text[start] == ":" and text[start + 1 : start + 2] != ":":
        start += 1
    mapped = _MAPPED.match(text, start)
    if mapped is not None:
        inner = _V4.match(text, mapped.end())
        if inner and _is_public(inner[0]) and free_before(text, start) and free_after(text, inner.end()):
            return start, inner.end()
        return None
    dot = text.find(".", start, end)
    if dot >= 0:
        # 2001:db8::203.0.113.7
        if (
            text[start] in "23"
            and _is_address(text[start:end])
            and free_before(text, start)
            and free_after(text, end)
        ):
            return start, end
        end = dot
    if text[end - 1] == ":" and text[end - 2] != ":":
        end -= 1
    if text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit():
        return None
    groups = text[start:end].split(":")
    if not (_is_whole(groups) or _is_short(groups)):
        return None
    if (
        not free_before(text, start)
        or text[end : end + 1].isalnum()
        or before(text, start)[0] in ("_", "-", ".")
    ):
        return None
    try:
        address = IPv6Address(text[start:end])
    except AddressValueError:
        return None
    if any(address in network for network in _SPECIAL_V6) or _is_network(text, start, end):
        return None
    words = words_before(text, start)
    if _IDS.intersection(words[:2]):
        return None
    return start, end


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _is_whole(groups: list[str]) -> bool:
    """Eight groups; of two digits each, they are the name of a device or a part of a dump."""
    return len(groups) == _GROUPS and all(groups) and any(len(group) > 2 for group in groups)


def _is_short(groups: list[str]) -> bool:
    """With `::`: only of what is given out in the internet (2000::/3), since source code is full of them."""
    return (
        3 < len(groups) + 1 <= 9
        and "" in groups[1:]
        and len(groups[0]) == 4
        and groups[0][0] in "23"
        and sum(map(bool, groups)) > 2
    )
