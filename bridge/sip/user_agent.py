"""What a user agent says: responses (§8.2.6), the checks before them (§8.2.1–§8.2.3), and first requests (§8.1.1).

Functions over messages, no state. It refuses to know transactions, dialogs already made (`dialog`) and what the
application wants. Tags, branches and Call-IDs are arguments; only a stateless answer's tag is derived (§8.2.7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from bridge.sip.dialog import MAX_FORWARDS
from bridge.sip.grammar import REASON_PHRASES
from bridge.sip.headers import Headers, Line, Malformed, Star, Via, contacts, content_type, option_tags, routes
from bridge.sip.info import TYPES
from bridge.sip.message import Request, Response
from bridge.sip.refer import SIPFRAG
from bridge.sip.session_timer import MIN_SE, TIMER, session_expires, too_small
from bridge.sip.uri import is_sips

DIALOG_MAKING = frozenset({"INVITE", "SUBSCRIBE", "REFER", "NOTIFY"})  # whose responses carry Record-Route (§12.1.1)
_COPIED = frozenset({"Via", "From", "Call-ID", "CSeq"})  # §8.2.6.2, and To with its tag
_COPIED_TO_TRYING = _COPIED | {"Timestamp"}  # §8.2.6.1
_COPIED_TO_DIALOG = _COPIED | {"Record-Route"}  # §12.1.1
_TARGETS = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "REFER"})  # where a Contact is the remote target (§8.1.1.8)
_REFRESHING = frozenset({"INVITE", "UPDATE"})  # what may ask for a session timer (RFC 4028 §7)
_MAX_RANGES = 128  # of an Accept that are looked at; the most seen in the field is a dozen
_CONTENT_MATTERS_NOT = frozenset({"BYE", "CANCEL"})  # who hangs up has hung up, whatever the body says


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What our user agent server understands; every value goes into an answer as it stands."""

    methods: tuple[str, ...] = (
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "OPTIONS",
        "INFO",
        "PRACK",
        "UPDATE",
        "NOTIFY",
        "REFER",
    )
    extensions: frozenset[str] = frozenset()  # option tags, lower case
    content_types: tuple[str, ...] = ("application/sdp",)
    info_types: tuple[str, ...] = TYPES  # of INFO, which brings no session description
    notify_types: tuple[str, ...] = (SIPFRAG,)  # of NOTIFY, likewise
    schemes: frozenset[str] = frozenset({"sip", "sips"})  # of the Request-URI, lower case
    server: str | None = None  # the Server header's value


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that gets this final response instead of being processed."""

    status: int
    reason: str
    headers: tuple[Line, ...] = ()


def respond(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[Line] = (),
    body: bytes = b"",
    contact: str | None = None,
) -> Response:
    """The response to `request` (§8.2.6.2). `reason` None: the RFC's own phrase; `headers` come last, as they stand.

    `to_tag` is ours, wanted in everything but a 100 (§8.2.6.2); where it is missing, one is derived from the request.
    """
    made: list[Line] = []
    copied = _COPIED
    if status == 100:
        copied = _COPIED_TO_TRYING
    elif status < 300 and request.method in DIALOG_MAKING:
        copied = _COPIED_TO_DIALOG
    untagged = status == 100 and to_tag is None
    for line in request.headers:
        if line[0] in copied:
            made.append(line)
        elif line[0] == "To":  # a malformed request may have none
            tagged = untagged or request.to_tag is not None
            made.append(line if tagged else ("To", f"{line[1]};tag={to_tag or stateless_tag(request)}"))
    if contact is not None:
        made.append(("Contact", contact))
    if headers:
        made.extend(Headers(headers))
    return Response(status, REASON_PHRASES.get(status, "") if reason is None else reason, Headers.of(made), body)


def stateless_tag(request: Request) -> str:
    """A To tag that a repetition of the request gets again without anything being remembered (§8.2.7)."""
    headers = request.headers
    same = f"{headers.get('Call-ID')}\n{headers.get('From')}\n{request.via.branch}"
    return f"{crc32(same.encode('utf-8', 'surrogateescape')):08x}"


def check(request: Request, capabilities: Capabilities) -> Refused | None:
    """What §8.2 has against a request, in its order; None: process it. An ACK is never refused.

    Merged requests (482, §8.2.2.2) are the endpoint's to notice. An INVITE must also say where to reach its sender
    (§8.1.1.8), or no dialog could be made of it.
    """
    if request.method == "ACK":
        return None
    return (
        _method(request, capabilities)
        or _scheme(request, capabilities)
        or _extensions(request, capabilities)
        or _session(request, capabilities)
        or _content(request, capabilities)
        or _accept(request, capabilities)
        or _contact(request)
    )


def asks_for_sips(request: Request) -> bool:
    """Whether this request is to be answered, and gone on with, by SIPS URIs alone (§12.1.1)."""
    if is_sips(request.uri):
        return True
    if request.method not in _TARGETS:
        return False
    where = "Record-Route" if "Record-Route" in request.headers else "Contact"
    if "sips:" not in (request.headers.get(where) or "").lower():  # hardly ever: the rest is spared
        return False
    found = routes(request, where) if where == "Record-Route" else contacts(request)
    return isinstance(found, tuple) and bool(found) and is_sips(found[0].uri)


def refuse(request: Request, refused: Refused, *, to_tag: str | None = None) -> Response:
    """The response that says so."""
    return respond(request, refused.status, refused.reason, to_tag=to_tag, headers=refused.headers)


def options_headers(capabilities: Capabilities) -> list[Line]:
    """What a 200 to OPTIONS tells of us (§11.2)."""
    lines = [
        ("Allow", ", ".join(capabilities.methods)),
        ("Accept", ", ".join(capabilities.content_types)),
        ("Accept-Encoding", "identity"),
        ("Accept-Language", "en"),
        ("Supported", ", ".join(sorted(capabilities.extensions))),
    ]
    if capabilities.server is not None:
        lines.append(("Server", capabilities.server))
    return lines


def _method(request: Request, capabilities: Capabilities) -> Refused | None:
    if request.method in capabilities.methods:
        return None
    return _refused(405, ("Allow", ", ".join(capabilities.methods)))


def _scheme(request: Request, capabilities: Capabilities) -> Refused | None:
    scheme = request.uri.partition(":")[0]
    if scheme in capabilities.schemes or scheme.lower() in capabilities.schemes:
        return None
    return _refused(416)


def _extensions(request: Request, capabilities: Capabilities) -> Refused | None:
    if "Require" not in request.headers or request.method == "CANCEL":
        return None  # §8.2.2.3: in a CANCEL it is to be ignored
    unknown = [tag for tag in option_tags(request, "Require") if tag not in capabilities.extensions]
    return _refused(420, ("Unsupported", ", ".join(unknown))) if unknown else None


def _session(request: Request, capabilities: Capabilities) -> Refused | None:
    """What it asks of how long the session shall last (RFC 4028 §9)."""
    if "Session-Expires" not in request.headers or request.method not in _REFRESHING:
        return None
    if TIMER not in capabilities.extensions:
        return None
    asked = session_expires(request)
    if isinstance(asked, Malformed):
        return Refused(400, asked.reason)
    return _refused(422, ("Min-SE", str(MIN_SE))) if too_small(request) else None


def _content(request: Request, capabilities: Capabilities) -> Refused | None:
    if not request.body or request.method in _CONTENT_MATTERS_NOT:
        return None
    if _is_optional(request):
        return None
    of_type = content_type(request)
    if of_type is None:
        return Refused(400, "Missing Content-Type")
    of_method = {"INFO": capabilities.info_types, "NOTIFY": capabilities.notify_types}
    understood = of_method.get(request.method, capabilities.content_types)
    if of_type not in understood:
        return _refused(415, ("Accept", ", ".join(understood)))
    encoded = "Content-Encoding" in request.headers
    if encoded and any(each.lower() != "identity" for each in request.headers.values("Content-Encoding")):
        return _refused(415, ("Accept-Encoding", "identity"))
    return None


def _is_optional(request: Request) -> bool:
    """Whether the body may be ignored when not understood (`handling=optional`, §20.11)."""
    disposition = request.headers.get("Content-Disposition")
    if disposition is None:
        return False
    parameters = disposition.lower().split(";")[1:]
    return any("".join(each.split()) == "handling=optional" for each in parameters)


def _accept(request: Request, capabilities: Capabilities) -> Refused | None:
    """Whether the sender takes what our answer to an INVITE would have in it (§20.1, RFC 4475 §3.3.15)."""
    accept = request.headers.get("Accept") if request.method == "INVITE" else None
    if accept is None or accept in capabilities.content_types:
        return None
    accepted = request.headers.values("Accept")[:_MAX_RANGES]
    ranges = {"".join(each.partition(";")[0].split()).lower() for each in accepted}
    for ours in capabilities.content_types:
        if not ranges.isdisjoint((ours, f"{ours.partition('/')[0]}/*", "*/*")):
            return None
    return _refused(406)


def _contact(request: Request) -> Refused | None:
    if request.method not in _TARGETS:
        return None
    if request.to_tag is not None and "Contact" not in request.headers:
        return None  # within a dialog some leave it out: the target stays
    found = contacts(request)
    if isinstance(found, Malformed):
        return Refused(400, found.reason)
    if isinstance(found, Star) or len(found) != 1:
        return Refused(400, "Exactly One Contact Wanted")
    return None


def _refused(status: int, *headers: Line) -> Refused:
    return Refused(status, REASON_PHRASES[status], headers)


def via_value(transport: str, sent_by: str, branch: str) -> str:
    """A Via of ours, asking for the port that our request comes from (RFC 3581 §3)."""
    return f"SIP/2.0/{transport.upper()} {sent_by};branch={branch};rport"


def new_request(
    method: str,
    uri: str,
    *,
    from_: str,
    to: str,
    call_id: str,
    sequence: int,
    via: str | Via,
    contact: str | None = None,
    headers: Iterable[Line] = (),
    body: bytes = b"",
    max_forwards: int = MAX_FORWARDS,
) -> Request:
    """A request outside any dialog (§8.1.1). `from_` carries our tag, `to` none; all are header values."""
    lines: list[Line] = [
        ("Via", str(via)),
        ("Max-Forwards", str(max_forwards)),
        ("From", from_),
        ("To", to),
        ("Call-ID", call_id),
        ("CSeq", f"{sequence} {method}"),
    ]
    if contact is not None:
        lines.append(("Contact", contact))
    lines.extend(headers)
    return Request(method, uri, Headers(lines), body)


def new_invite(
    uri: str,
    *,
    from_: str,
    to: str,
    call_id: str,
    sequence: int,
    via: str | Via,
    contact: str,
    offer: bytes = b"",
    capabilities: Capabilities | None = None,
    headers: Iterable[Line] = (),
    max_forwards: int = MAX_FORWARDS,
) -> Request:
    """An INVITE that begins a dialog (§13.2.1), with an SDP offer or, where it is empty, asking for one."""
    lines: list[Line] = []
    if capabilities is not None:
        lines += [("Allow", ", ".join(capabilities.methods)), ("Accept", ", ".join(capabilities.content_types))]
        if capabilities.extensions:
            lines.append(("Supported", ", ".join(sorted(capabilities.extensions))))
        if capabilities.server is not None:
            lines.append(("User-Agent", capabilities.server))
    lines.extend(headers)
    if offer:
        lines.append(("Content-Type", "application/sdp"))
    return new_request(
        "INVITE",
        uri,
        from_=from_,
        to=to,
        call_id=call_id,
        sequence=sequence,
        via=via,
        contact=contact,
        headers=lines,
        body=offer,
        max_forwards=max_forwards,
    )
