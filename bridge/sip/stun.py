"""The STUN of RFC 5626 §4.4.2 and §8: a phone behind a NAT keeps its flow alive by Binding requests to the SIP port, and
learns from the answer whether the NAT has given it another one (RFC 5389 §7, §15.2).

UDP alone. Refuses to know authentication, other methods and the classic STUN of RFC 3489, which has no magic cookie.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Final

_COOKIE: Final = 0x2112A442
_REQUEST, _SUCCESS, _ERROR = 0x0001, 0x0101, 0x0111  # of Binding
_XOR_MAPPED_ADDRESS, _ERROR_CODE, _UNKNOWN_ATTRIBUTES = 0x0020, 0x0009, 0x000A
_MAY_BE_PASSED_OVER: Final = 0x8000
_HEADER: Final = struct.Struct("!HHI12s")
_LONGEST: Final = 548  # RFC 5389 §7.1: no request is longer where nobody knows the path's MTU
_UNKNOWN_MOST: Final = 8  # that an answer names: it stays about as long as its question


def binding_answer(data: bytes, host: str, port: int) -> bytes | None:
    """What a Binding request from this address is answered; None for everything else."""
    if not _HEADER.size <= len(data) <= _LONGEST:
        return None
    kind, length, cookie, transaction = _HEADER.unpack_from(data)
    if kind != _REQUEST or cookie != _COOKIE or length % 4 or length != len(data) - _HEADER.size:
        return None
    unknown = _unknown(data)
    if unknown is None:
        return None
    if unknown:
        types = b"".join(struct.pack("!H", each) for each in unknown)
        body = _attribute(_ERROR_CODE, b"\0\0\x04\x14Unknown Attribute") + _attribute(_UNKNOWN_ATTRIBUTES, types)
        return _HEADER.pack(_ERROR, len(body), _COOKIE, transaction) + body
    address = ip_address(host.partition("%")[0])
    mask = struct.pack("!I", _COOKIE) + transaction
    hidden = bytes(ours ^ theirs for ours, theirs in zip(address.packed, mask, strict=False))
    family = 1 if address.version == 4 else 2
    body = _attribute(_XOR_MAPPED_ADDRESS, struct.pack("!BBH", 0, family, port ^ _COOKIE >> 16) + hidden)
    return _HEADER.pack(_SUCCESS, len(body), _COOKIE, transaction) + body


def _unknown(data: bytes) -> list[int] | None:
    """The attributes that one has to understand, and we do not (RFC 5389 §7.3.1); None: they cannot be read."""
    found: list[int] = []
    at = _HEADER.size
    while at < len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        at += 4 + length + -length % 4
        if at > len(data):
            return None
        if kind < _MAY_BE_PASSED_OVER and kind not in found and len(found) < _UNKNOWN_MOST:
            found.append(kind)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
