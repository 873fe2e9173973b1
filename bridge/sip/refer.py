"""REFER (RFC 3515) as its sender sees it: the lines that ask for a transfer, and the NOTIFYs that tell what came of it.

The subscription is implied by the REFER (§2.4.4) and tells by a message/sipfrag (RFC 3420), of which the status line counts.
Refuses to know calls, and what is made of the news.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.sip.dialog import Dialog
from bridge.sip.headers import Headers, Line, content_type, parse_name_addr
from bridge.sip.message import Request

SIPFRAG = "message/sipfrag"
EVENT = "refer"

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n]{0,200}))?")


@dataclass(frozen=True, slots=True)
class Notice:
    """What one NOTIFY tells."""

    id: int | None  # the CSeq number of the REFER that it is about (§2.4.6); None: it does not say
    over: bool  # no further one will come
    status: int | None  # of the last response that the far end has had; None: it has no sipfrag that says
    reason: str  # its reason phrase


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
