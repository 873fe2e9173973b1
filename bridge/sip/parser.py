"""Bytes to messages: §7, §18.3, and the malformed-message answers of contract.md §6.

One pass over the head: decoded once, split once, names looked up, values left alone. Then exactly what every
receiver relies on is checked. Whatever comes, `parse` returns a value and takes time linear in its length. Knows
nothing of flows and states; what becomes of a malformed message is its caller's affair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from bridge.sip.grammar import first_of_list, is_number, is_token
from bridge.sip.headers import (
    Headers,
    Line,
    Malformed,
    NameAddr,
    Via,
    parse_cseq,
    parse_name_addr,
    parse_via,
)
from bridge.sip.message import Request, Response
from bridge.sip.names import CANONICAL, METHODS, canonical_name
from bridge.sip.uri import is_uri

__all__ = ["KeepAlive", "Malformed", "MalformedMessage", "Parsed", "Request", "Response", "parse"]

MAX_MESSAGE_BYTES: Final = 65_535
MAX_HEADER_LINES: Final = 256  # per message; a well-grown one has forty
MAX_SEQUENCE: Final = 2**31 - 1  # §8.1.1.5

_SINGLE: Final = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length")
_ILLEGIBLE: Final = NameAddr(None, "")
_VERSION: Final = re.compile(r"SIP[ \t]*+/[ \t]*+[0-9]++\.[0-9]++", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Bytes without a message: CRLFs (RFC 5626 §3.5.1), or the zeros some phones and registrars send."""

    answer: bytes  # the pong a ping wants, else empty


@dataclass(frozen=True, slots=True)
class MalformedMessage(Malformed):
    """A message that cannot be taken. Where there is a `request`, `status` and `reason` are the answer to it.

    Of that request Via and CSeq can be read, by which its sender finds what was answered (§17.1.3); From, To and
    Call-ID where it has them (an illegible From or To has an empty URI and no tag). Nothing else of it has been checked.
    """

    request: Request | None = None
    status: int = 400


Parsed: TypeAlias = Request | Response | KeepAlive | MalformedMessage


def parse(data: bytes) -> Parsed:
    """Read one datagram, or one message that a stream's framing has cut out."""
    if not data or data[0] in b"\r\n\0":
        if not data.strip(b"\r\n\0"):
            return KeepAlive(b"\r\n" if data == b"\r\n\r\n" else b"")
        data = data.lstrip(b"\r\n")  # §7.5
    if len(data) > MAX_MESSAGE_BYTES:
        return MalformedMessage("Message Too Large")
    end = data.find(b"\r\n\r\n")
    head = (data if end < 0 else data[:end]).decode("utf-8", "surrogateescape")
    text_lines = head.split("\r\n")
    flaw = ""
    lines = _read_lines(text_lines) if head.count("\n") == head.count("\r") == len(text_lines) - 1 else None
    if lines is None:
        lines, flaw = _read_odd_lines(head)
    if end < 0:
        flaw = flaw or "No Empty Line After Header Fields"
    start_line = text_lines[0]
    if start_line[:4].upper() == "SIP/":
        return _response(start_line, lines, flaw, data[end + 4 :])
    return _request(start_line, lines, flaw, data[end + 4 :])


class _Names(dict[str, str]):
    """Spelling to canonical name, for the names nobody has told us of too; KeyError for what is no name."""

    def __missing__(self, name: str) -> str:
        name = name.rstrip(" \t")
        if not is_token(name):
            raise KeyError(name)
        return canonical_name(name)


_NAMES: Final = _Names(CANONICAL)


def _read_lines(text_lines: list[str]) -> list[Line] | None:
    """The header lines of an ordinary head; None where one is folded, is none, or where there are too many."""
    if len(text_lines) > MAX_HEADER_LINES + 1:
        return None
    names = _NAMES
    try:
        # `for … in [one]` is how a comprehension says `=`, at no cost.
        return [(names[name], value.strip(" \t")) for line in text_lines[1:] for name, value in [line.split(":", 1)]]
    except (KeyError, ValueError):
        return None


def _read_odd_lines(head: str) -> tuple[list[Line], str]:
    """The header lines of any head, as far as they can be read, and what is wrong with them."""
    start_line, _, rest = head.partition("\r\n")
    flaw = "Stray CR or LF" if "\r" in start_line or "\n" in start_line else ""
    if rest[:1] in (" ", "\t"):
        flaw = flaw or "Folded Start Line"
    rest = rest.replace("\r\n ", " ").replace("\r\n\t", " ")  # §7.3.1
    text_lines = rest.split("\r\n", MAX_HEADER_LINES)
    if len(text_lines) > MAX_HEADER_LINES:
        flaw = flaw or "Too Many Header Fields"
        text_lines.pop()
    lines: list[Line] = []
    for line in text_lines:
        if "\r" in line or "\n" in line:
            # Whoever takes a bare CR or LF for the end of a line would see header fields here that we do not.
            flaw = flaw or "Stray CR or LF"
            line = line.replace("\r", " ").replace("\n", " ")  # noqa: PLW2901
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if colon and is_token(name):
            lines.append((canonical_name(name), value.strip(" \t")))
        elif line:
            flaw = flaw or "Malformed Header Line"
    return lines, flaw


def _response(start_line: str, lines: list[Line], flaw: str, body: bytes) -> Response | MalformedMessage:
    if start_line[:8].upper() != "SIP/2.0 ":
        return MalformedMessage("Version Not Supported")
    status, space = start_line[8:11], start_line[11:12]
    if len(status) != 3 or not is_number(status) or not "100" <= status <= "699" or space not in ("", " "):
        return MalformedMessage("Malformed Status Line")
    first = dict(reversed(lines))
    message = Response(int(status), start_line[12:], Headers.of(lines, first))
    flaw = flaw or _check(message, lines, first, body)
    return MalformedMessage(flaw) if flaw else message


def _request(start_line: str, lines: list[Line], flaw: str, body: bytes) -> Request | MalformedMessage:
    method, _, rest = start_line.partition(" ")
    uri, _, version = rest.rpartition(" ")
    status = 400
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        pieces = start_line.split()
        if len(pieces) < 3 or not pieces[-1].upper().startswith("SIP/"):
            return MalformedMessage("Not SIP")
        if pieces[-1] == version and not flaw:
            flaw, status = "Version Not Supported", 505
        flaw = flaw or "Malformed Request Line"
    if method not in METHODS and not is_token(method):
        flaw = flaw or "Malformed Request Line"
    elif not is_uri(uri):
        flaw = flaw or "Malformed Request-URI"
    first = dict(reversed(lines))
    message = Request(method, uri, Headers.of(lines, first))
    flaw = flaw or _check(message, lines, first, body)
    if not flaw and message.cseq.method != method:
        flaw = "CSeq Method Mismatch"
    return MalformedMessage(flaw, _answerable(message, first), status) if flaw else message


def _check(message: Request | Response, lines: list[Line], first: Mapping[str, str], body: bytes) -> str:
    """What is wrong with the header fields everybody relies on, or ""; gives the message its body (§18.3)."""
    if len(first) != len(lines):
        names = [name for name, _ in lines]
        for name in _SINGLE:
            if names.count(name) > 1:
                return f"Several {name}"
    try:
        via_line, from_line, to_line = first["Via"], first["From"], first["To"]
        call_id, cseq_line = first["Call-ID"], first["CSeq"]
    except KeyError as missing:
        return f"Missing {missing.args[0]}"
    via = parse_via(via_line if "," not in via_line else first_of_list(via_line)[0])
    if via is None:
        return "Malformed Via"
    from_ = parse_name_addr(from_line)
    if from_ is None:
        return "Malformed From"
    to = parse_name_addr(to_line)
    if to is None:
        return "Malformed To"
    if not call_id or " " in call_id or "\t" in call_id:
        return "Malformed Call-ID"
    cseq = parse_cseq(cseq_line)
    if cseq is None or cseq.number > MAX_SEQUENCE:
        return "Malformed CSeq"
    message.remember(
        via_line=via_line,
        via=via,
        from_line=from_line,
        from_=from_,
        to_line=to_line,
        to=to,
        cseq_line=cseq_line,
        cseq=cseq,
    )
    hops = first.get("Max-Forwards")
    if (
        hops is not None and hops != "70" and not (is_number(hops) and int(hops) <= 255)
    ):  # §8.1.1.6: 70 is what they send
        return "Malformed Max-Forwards"
    length = first.get("Content-Length")
    if length is not None and length != str(len(body)):
        if not is_number(length):
            return "Malformed Content-Length"
        size = int(length)
        if size > len(body):
            return "Content-Length Exceeds Body"
        body = body[:size]
    message.body = body
    return ""


def _answerable(request: Request, first: Mapping[str, str]) -> Request | None:
    """`request`, if a response to it could be made and sent."""
    via_line, from_line, to_line = first.get("Via", ""), first.get("From", ""), first.get("To", "")
    cseq_line = first.get("CSeq", "")
    via, cseq = _legible_via(first_of_list(via_line)[0]), parse_cseq(cseq_line)
    if via is None or cseq is None:
        return None
    request.remember(
        via_line=via_line,
        via=via,
        from_line=from_line,
        from_=parse_name_addr(from_line) or _ILLEGIBLE,
        to_line=to_line,
        to=parse_name_addr(to_line) or _ILLEGIBLE,
        cseq_line=cseq_line,
        cseq=cseq,
    )
    return request


def _legible_via(text: str) -> Via | None:
    """A Via as far as an answer needs it: of whatever version, and without its parameters where they are malformed."""
    text = _VERSION.sub("SIP/2.0", text, count=1)
    return parse_via(text) or parse_via(text.partition(";")[0])
