"""Writes small MMDB files (https://maxmind.github.io/MaxMind-DB/): IPv4 networks -> entries."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"


def written(value: Any) -> bytes:
    """A value of the data section: a map, a text or a small number."""
    if isinstance(value, Mapping):
        return bytes([0xE0 | len(value)]) + b"".join(written(k) + written(v) for k, v in value.items())
    if isinstance(value, str):
        assert len(value) < 29
        return bytes([0x40 | len(value)]) + value.encode()
    if isinstance(value, list):
        return bytes([len(value), 0x04]) + b"".join(map(written, value))
    data = value.to_bytes(4, "big").lstrip(b"\0")
    return bytes([0xC0 | len(data)]) + data


def database(networks: Mapping[str, Any]) -> bytes:
    """Records of 24 bits; the networks must not overlap."""
    nodes: list[list[Any]] = [[None, None]]
    data, offsets = b"", {}
    for network, entry in networks.items():
        offsets[network] = len(data)
        data += written(entry)
    for network in networks:
        parsed = ipaddress.ip_network(network)
        bits = f"{int(parsed.network_address):032b}"[: parsed.prefixlen]
        at = 0
        for bit in map(int, bits[:-1]):
            if nodes[at][bit] is None:
                nodes.append([None, None])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][int(bits[-1])] = network
    count = len(nodes)

    def record(value: Any) -> bytes:
        number = count if value is None else value
        if isinstance(value, str):
            number = count + 16 + offsets[value]
        return int(number).to_bytes(3, "big")

    tree = b"".join(record(side) for node in nodes for side in node)
    about = {
        "node_count": count,
        "record_size": 24,
        "ip_version": 4,
        "database_type": "Test",
        "languages": ["en"],
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1,
        "description": {"en": "test"},
    }
    return tree + bytes(16) + data + MARKER + written(about)
