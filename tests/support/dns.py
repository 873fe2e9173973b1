"""A name server on loopback: says what it is told to, counts what it is asked, and is silent or broken on demand (RFC 1035)."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from dataclasses import dataclass
from threading import Thread
from typing import Literal

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28, "SRV": 33, "NAPTR": 35}
_NAMES = {number: name for name, number in TYPES.items()}


@dataclass(frozen=True)
class Entry:
    """One resource record; `data` as in a zone file, without quotes."""

    type: str
    data: str
    ttl: int = 300

    def encode(self) -> bytes:
        words = self.data.split()
        match self.type:
            case "A":
                data = socket.inet_pton(socket.AF_INET, self.data)
            case "AAAA":
                data = socket.inet_pton(socket.AF_INET6, self.data)
            case "CNAME":
                data = _name(self.data)
            case "SRV":
                data = struct.pack("!HHH", *map(int, words[:3])) + _name(words[3])
            case "NAPTR":
                texts = [b"" if word == "-" else word.encode() for word in words[2:5]]
                data = struct.pack("!HH", *map(int, words[:2]))
                data += b"".join(bytes([len(text)]) + text for text in texts) + _name(words[5])
            case _:
                raise AssertionError(self.type)
        return struct.pack("!HHIH", TYPES[self.type], 1, self.ttl, len(data)) + data


class NameServer:
    """Answers for all names: those it has entries of, and NXDOMAIN for the others."""

    def __init__(self, entries: dict[str, list[Entry]], *, port: int = 0) -> None:
        self.entries = entries
        self.mode: Literal["well", "silent", "broken"] = "well"
        self.asked: Counter[str] = Counter()  # "SRV _sip._udp.example.com", copies included
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = Thread(target=self._serve, name="name server", daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.sendto(b"", self._socket.getsockname())
        self._thread.join(10.0)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, address = self._socket.recvfrom(65_535)
            if not query:
                return
            answer = self._answer(query)
            if answer is not None:
                self._socket.sendto(answer, address)

    def _answer(self, query: bytes) -> bytes | None:
        number, name, kind, question = _read(query)
        self.asked[f"{kind} {name}"] += 1
        if self.mode == "silent":
            return None
        found, code = self._find(name, kind) if self.mode == "well" else ([], 2)
        answer = b"".join(_name(owner) + entry.encode() for owner, entry in found)
        return struct.pack("!6H", number, 0x8580 | code, 1, len(found), 0, 0) + question + answer

    def _find(self, name: str, kind: str) -> tuple[list[tuple[str, Entry]], int]:
        known = self.entries.get(name)
        if known is None:
            return [], 3
        found = [(name, entry) for entry in known if entry.type in (kind, "CNAME")]
        for _, entry in list(found):
            if entry.type == "CNAME":
                found += self._find(entry.data.rstrip("."), kind)[0]
        return found, 0


def _name(name: str) -> bytes:
    labels = [label for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def _read(query: bytes) -> tuple[int, str, str, bytes]:
    """Number, name, type, and the question as it was put."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind = struct.unpack_from("!H", query, at + 1)[0]
    return struct.unpack_from("!H", query)[0], ".".join(labels), _NAMES.get(kind, str(kind)), query[12 : at + 5]
