"""REFER (RFC 3515) on both sides: the lines that ask for a transfer, and the NOTIFYs that tell what came of it.

The subscription is implied by the REFER (§2.4.4) and tells by a message/sipfrag (RFC 3420), of which the status line counts;
whoever refers may do without it (RFC 4488). Refuses to know calls, and what is made of the news.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.sip.dialog import Dialog
from bridge.sip.grammar import unescape
from bridge.sip.headers import Headers, Line, content_type, parse_name_addr
from bridge.sip.message import Request
from bridge.sip.replaces import Replaces, parse_replaces
from bridge.sip.uri import SipUri, parse_uri

SIPFRAG = "message/sipfrag"
EVENT = "refer"
TARGET_MOST = 1024  # characters of a target: what nobody dials need not be stored

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n]{0,200}))?")


@dataclass(frozen=True, slots=True)
class Notice:
    """What one NOTIFY tells."""

    id: int | None  # the CSeq number of the REFER that it is about (§2.4.6); None: it does not say
    over: bool  # no further one will come
    status: int | None  # of the last response that the far end has had; None: it has no sipfrag that says
    reason: str  # its reason phrase


@dataclass(frozen=True, slots=True)
class Wish:
    """What a REFER asks for."""

    target: str  # a SIP or SIPS URI without headers
    replaces: Replaces | None  # the dialog of the target that the new call shall take the place of (RFC 3891)
    referred_by: str | None  # who refers, as a URI (RFC 3892 §2.1); what would prove it is not asked for
    subscribes: bool  # False: it wants no NOTIFY (RFC 4488 §4)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A REFER that gets this final response."""

    status: int
    reason: str


def read_refer(request: Request) -> Wish | Unusable:
    """What a REFER asks for. One that asks for something other than a call is refused (§2.4.2)."""
    values = request.headers.values("Refer-To")
    named = parse_name_addr(values[0]) if len(values) == 1 else None
    if named is None or len(named.uri) > TARGET_MOST:
        return Unusable(400, "Bad Refer-To")
    uri = parse_uri(named.uri)
    if uri is None:
        return Unusable(400, "Bad Refer-To")
    if not isinstance(uri, SipUri):
        return Unusable(416, "Unsupported URI Scheme")
    if (uri.param("method") or "INVITE").upper() != "INVITE":
        return Unusable(403, "Only INVITE Is Referred To")
    replaces = _replaces_in(uri.headers)
    if isinstance(replaces, Unusable):
        return replaces
    params = tuple([each for each in uri.params if each[0] != "method"])
    # A password of the URI's would be ours to send on, and is nobody's to see.
    target = str(uri._replace(password=None, params=params, headers=""))
    return Wish(target, replaces, _referred_by(request), _subscribes(request))


def notice_lines(sequence: int, *, expires_s: int, over: bool) -> list[Line]:
    """The header lines of a NOTIFY about the REFER with this CSeq number (§2.4.5, §2.4.6, §2.4.7)."""
    state = "terminated;reason=noresource" if over else f"active;expires={expires_s}"
    return [("Event", f"{EVENT};id={sequence}"), ("Subscription-State", state), ("Content-Type", SIPFRAG)]


def notice_body(code: int, reason: str) -> bytes:
    """The status line that a NOTIFY brings."""
    return f"SIP/2.0 {code} {reason}\r\n".encode()


def _replaces_in(headers: str) -> Replaces | Unusable | None:
    """The Replaces among a URI's headers. Others are not ours to take over (§19.1.5), and are left out."""
    found = [value for name, _, value in (each.partition("=") for each in headers.split("&")) if _is_replaces(name)]
    if not found:
        return None
    replaces = parse_replaces(unescape(found[0])) if len(found) == 1 else None
    return replaces or Unusable(400, "Bad Replaces")


def _is_replaces(name: str) -> bool:
    return unescape(name).lower() == "replaces"


def _referred_by(request: Request) -> str | None:
    values = request.headers.values("Referred-By")
    named = parse_name_addr(values[0]) if len(values) == 1 else None
    uri = parse_uri(named.uri) if named is not None and len(named.uri) <= TARGET_MOST else None
    return str(uri._replace(password=None, headers="")) if isinstance(uri, SipUri) else None


def _subscribes(request: Request) -> bool:
    said = request.headers.get("Refer-Sub")
    return said is None or said.partition(";")[0].strip().lower() != "false"


def refer_lines(target: str, dialog: Dialog) -> list[Line]:
    """The header lines of a REFER to `target`, a URI, within this dialog; who refers is told by Referred-By (RFC 3892 §2.1)."""
    ours = parse_name_addr(dialog.local_uri)
    lines = [("Refer-To", f"<{target}>")]
    if ours is not None:
        lines.append(("Referred-By", f"<{ours.uri}>"))
    return lines


def is_about_refer(request: Request) -> bool:
    """Whether a NOTIFY is of the package `refer` (RFC 6665 §8.2.1)."""
    return _event(request.headers).partition(";")[0].strip().lower() == EVENT


def read_notice(request: Request) -> Notice:
    """What this NOTIFY of the package `refer` tells. The first line of its body counts, whatever follows."""
    state, _, _ = (request.headers.get("Subscription-State") or "").partition(";")
    said = _STATUS_LINE.match(request.body) if content_type(request) == SIPFRAG else None
    return Notice(
        _id(_event(request.headers)),
        state.strip().lower() == "terminated",
        int(said[1]) if said is not None else None,
        (said[2] or b"").decode("utf-8", "replace").strip() if said is not None else "",
    )


def _event(headers: Headers) -> str:
    return headers.get("Event") or headers.get("o") or ""


def _id(event: str) -> int | None:
    for parameter in event.split(";")[1:]:
        name, _, value = parameter.partition("=")
        number = value.strip()
        if name.strip().lower() == "id" and number.isascii() and number.isdigit() and len(number) <= 10:
            return int(number)
    return None
