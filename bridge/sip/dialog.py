"""Dialogs: what two user agents remember of each other. §12, plain data that outlives its process.

Construction on both sides (§12.1), requests within (§12.2.1.1, strict routers of RFC 2543 included), the order of what
arrives (§12.2.2), the target's refresh. It refuses to know INVITEs in particular (`invite_usage`), transactions and
sockets, and draws no tags or branches: those are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypedDict

from bridge.errors import LocalProtocolError
from bridge.sip.flow import Flow
from bridge.sip.headers import Headers, Malformed, contacts, parse_name_addr, routes
from bridge.sip.message import Request, Response
from bridge.sip.uri import SipUri, is_sips, parse_uri

MAX_FORWARDS = 70  # §8.1.1.6


class DialogState(StrEnum):
    """§12: early by a provisional response with a To tag, confirmed by a 2xx."""

    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Admit:
    """The request is in order; its CSeq number is the dialog's now."""


@dataclass(frozen=True, slots=True)
class StaleSequence:
    """The request is not newer than one already seen: answer 500 (§12.2.2)."""

    known: int


class DialogData(TypedDict):
    """A dialog as plain data."""

    v: Literal[1]
    call_id: str
    local_tag: str
    remote_tag: str
    local_uri: str
    remote_uri: str
    local_sequence: int
    remote_sequence: int | None
    remote_target: str
    route_set: list[str]
    secure: bool
    flow: list[str | int]
    state: str


@dataclass(slots=True)
class Dialog:
    """One end of a dialog (§12.1.1, §12.1.2). Mutable, owned by one call, no part shared."""

    call_id: str
    local_tag: str
    remote_tag: str  # "" where an RFC 2543 peer gave none
    local_uri: str  # our From as we write it, its tag included: some peers compare the text
    remote_uri: str  # our To as they wrote it, its tag included
    local_sequence: int  # of our last request; 0: none yet
    remote_sequence: int | None  # of their last request; None: none yet
    remote_target: str  # the URI that reaches them
    route_set: tuple[str, ...]  # as Route values, first hop first
    secure: bool  # sips end to end
    flow: Flow  # how the last message came
    state: DialogState

    @classmethod
    def as_server(cls, request: Request, local_tag: str, flow: Flow) -> Dialog:
        """The called side's dialog, from the request that makes it (§12.1.1): early until the user says `confirmed`.

        `user_agent.check` has refused a request without a usable Contact before.
        """
        target = _target(request)
        if target is None:
            raise LocalProtocolError("a dialog needs a Contact with a URI: check the request first")
        to = request.headers.get("To") or ""
        return cls(
            call_id=request.call_id,
            local_tag=local_tag,
            remote_tag=request.from_tag or "",
            local_uri=to if request.to_tag else f"{to};tag={local_tag}",
            remote_uri=request.headers.get("From") or "",
            local_sequence=0,
            remote_sequence=request.cseq.number,
            remote_target=target,
            route_set=_record_route(request),
            secure=flow.secure and is_sips(request.uri),
            flow=flow,
            state=DialogState.EARLY,
        )

    @classmethod
    def as_client(cls, request: Request, response: Response, flow: Flow) -> Dialog:
        """The calling side's dialog, from its request and a 101–2xx response (§12.1.2).

        A response without a usable Contact breaks §12.1.1, but must be acknowledged and ended all the same: the
        Request-URI is what remains as a target.
        """
        return cls(
            call_id=request.call_id,
            local_tag=request.from_tag or "",
            remote_tag=response.to_tag or "",
            local_uri=request.headers.get("From") or "",
            remote_uri=response.headers.get("To") or "",
            local_sequence=request.cseq.number,
            remote_sequence=None,
            remote_target=_target(response) or request.uri,
            route_set=_record_route(response)[::-1],
            secure=flow.secure and is_sips(request.uri),
            flow=flow,
            state=DialogState.CONFIRMED if response.status >= 200 else DialogState.EARLY,
        )

    def confirm(self, response: Response | None = None) -> None:
        """A 2xx has left, or has come as `response`: its Record-Route replaces the early one's (§13.2.2.4)."""
        self.state = DialogState.CONFIRMED
        if response is not None:
            self.route_set = _record_route(response)[::-1]
            self.remote_target = _target(response) or self.remote_target

    def terminate(self) -> None:
        self.state = DialogState.TERMINATED

    def new_request(
        self,
        method: str,
        *,
        via: str,
        contact: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Request:
        """A request within the dialog, with the next CSeq number (§12.2.1.1).

        `via` and `contact` are header values. Raises `LocalProtocolError` for ACK and CANCEL, which have no number of
        their own, and once the dialog is over.
        """
        if method in ("ACK", "CANCEL"):
            raise LocalProtocolError(f"{method} takes the CSeq number of its INVITE")
        if self.state is DialogState.TERMINATED:
            raise LocalProtocolError(f"no {method} in a dialog that is over")
        self.local_sequence += 1
        return self._request(method, self.local_sequence, via=via, contact=contact, headers=headers, body=body)

    def ack_for(
        self,
        answered: Response | int,
        *,
        via: str,
        contact: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Request:
        """The ACK of a 2xx, or of the INVITE with that CSeq number; `via` has a branch of its own (§13.2.2.4)."""
        sequence = answered if isinstance(answered, int) else answered.cseq.number
        return self._request("ACK", sequence, via=via, contact=contact, headers=headers, body=body)

    def admits(self, request: Request) -> Admit | StaleSequence:
        """Whether a request within the dialog is in order (§12.2.2), and if so, remember its number.

        ACK and CANCEL carry their INVITE's number and are not asked. An equal number is refused like a lower one, as
        pjsip does: numbers grow strictly (§12.2.1.1), and repetitions have been absorbed before they come here.
        """
        if request.method in ("ACK", "CANCEL"):
            return _ADMIT
        number, known = request.cseq.number, self.remote_sequence
        if known is not None and number <= known:
            return StaleSequence(known)
        self.remote_sequence = number
        return _ADMIT

    def refresh_target(self, message: Request | Response) -> None:
        """Take the Contact of a target refresh request, or of a 2xx to ours, as the new target (§12.2)."""
        target = _target(message)
        if target is not None:
            self.remote_target = target

    def _request(
        self,
        method: str,
        sequence: int,
        *,
        via: str,
        contact: str | None,
        headers: Iterable[tuple[str, str]],
        body: bytes,
    ) -> Request:
        uri, route = self.remote_target, self.route_set
        if route and not _is_loose(route[0]):
            # A strict router wants to find itself in the Request-URI, and the target behind all routes.
            uri, route = _as_request_uri(route[0]), (*route[1:], f"<{self.remote_target}>")
        lines = [("Via", via), ("Max-Forwards", str(MAX_FORWARDS))]
        lines.extend([("Route", each) for each in route])
        lines.append(("From", self.local_uri))
        lines.append(("To", self.remote_uri))
        lines.append(("Call-ID", self.call_id))
        lines.append(("CSeq", f"{sequence} {method}"))
        if contact is not None:
            lines.append(("Contact", contact))
        if headers:
            lines.extend(Headers(headers))
        return Request(method, uri, Headers.of(lines), body)

    def to_data(self) -> DialogData:
        return {
            "v": 1,
            "call_id": self.call_id,
            "local_tag": self.local_tag,
            "remote_tag": self.remote_tag,
            "local_uri": self.local_uri,
            "remote_uri": self.remote_uri,
            "local_sequence": self.local_sequence,
            "remote_sequence": self.remote_sequence,
            "remote_target": self.remote_target,
            "route_set": list(self.route_set),
            "secure": self.secure,
            "flow": self.flow.to_data(),
            "state": self.state.value,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Dialog:
        return cls(
            call_id=data["call_id"],
            local_tag=data["local_tag"],
            remote_tag=data["remote_tag"],
            local_uri=data["local_uri"],
            remote_uri=data["remote_uri"],
            local_sequence=data["local_sequence"],
            remote_sequence=data["remote_sequence"],
            remote_target=data["remote_target"],
            route_set=tuple(data["route_set"]),
            secure=data["secure"],
            flow=Flow(*data["flow"]),
            state=DialogState(data["state"]),
        )


_ADMIT = Admit()


def _target(message: Request | Response) -> str | None:
    """The URI of the message's one Contact; None where it has none that a dialog could use."""
    found = contacts(message)
    if isinstance(found, tuple) and found:
        return found[0].uri
    return None


def _record_route(message: Request | Response) -> tuple[str, ...]:
    """Its Record-Route values as Route values, as they came; none where one of them is unreadable."""
    if "Record-Route" not in message.headers or isinstance(routes(message, "Record-Route"), Malformed):
        return ()
    return tuple(message.headers.values("Record-Route"))


def _uri_of(route: str) -> str:
    address = parse_name_addr(route)
    return "" if address is None else address.uri


def _is_loose(route: str) -> bool:
    uri = parse_uri(_uri_of(route))
    return isinstance(uri, SipUri) and uri.is_lr


def _as_request_uri(route: str) -> str:
    """A strict router's URI as Request-URI: without what §19.1.1 forbids there."""
    text = _uri_of(route)
    uri = parse_uri(text)
    if not isinstance(uri, SipUri):
        return text
    return str(uri._replace(params=tuple(each for each in uri.params if each[0] != "method"), headers=""))
