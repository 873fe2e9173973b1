"""Somebody who is called: a user agent server at an address of its own, that does what the test says."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.engine.inputs import Input, Packet
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from tests.engine.world import World, sdp


class Callee:
    """A phone at 192.0.2.<number>. It answers BYE and CANCEL, and everything else when the test says so."""

    def __init__(self, world: World, number: int = 2, *, transport: str = "udp") -> None:
        self.world = world
        self.host = f"192.0.2.{number}"
        self.uri = f"sip:bob@{self.host}:5060" + ("" if transport == "udp" else f";transport={transport}")
        self.got: list[Request] = []  # each copy of each request
        self.responses: list[Response] = []
        self.said: list[Response] = []  # its answers to INVITEs
        self.flow: Flow | None = None
        self.sequence = 100
        self.deaf = False
        world.parties[self.host, 5060] = self

    def take(self, message: Request | Response, flow: Flow) -> Iterable[Input]:
        if isinstance(message, Response):
            self.responses.append(message)
            return
        self.got.append(message)
        self.flow = flow
        if not self.deaf and message.method in ("BYE", "CANCEL"):
            yield self._packet(self._response(message, 200))

    # What it has got

    def requests(self, method: str) -> list[Request]:
        """Each once, however often it was repeated."""
        return list({each.via.branch: each for each in self.got if each.method == method}.values())

    @property
    def invite(self) -> Request:
        return self.requests("INVITE")[-1]

    @property
    def methods(self) -> list[str]:
        found = {(each.via.branch, each.method): each.method for each in self.got}
        return list(found.values())

    # What it does

    def answer(
        self,
        status: int,
        *,
        offer: str | None = None,
        tag: str = "b1",
        invite: Request | None = None,
        extra: str = "",
        reason: str = "Whatever",
    ) -> None:
        """Answer its last INVITE; a 2xx brings an SDP."""
        body = (
            offer
            if offer is not None
            else (sdp(5000, address=self.host, formats="0 101") if 200 <= status < 300 else "")
        )
        text = self._response(invite or self.invite, status, body, tag, extra, reason)
        said = parse(text.encode())
        assert isinstance(said, Response), said
        self.said.append(said)
        self.world.give(self._packet(text))

    def bye(self, *, tag: str = "b1") -> None:
        self.within("BYE", tag=tag)

    def within(self, method: str, body: str = "", *, tag: str = "b1", sequence: int | None = None) -> None:
        """A request within the dialog that its 2xx made."""
        self.sequence += 1
        invite = self.invite
        kind = "Content-Type: application/sdp\r\n" if body else ""
        number = self.sequence if sequence is None else sequence
        text = (
            f"{method} sip:x@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP {self.host}:5060;branch=z9hG4bK-{self.host}-{number}-{method}\r\n"
            f"Max-Forwards: 70\r\nFrom: {invite.headers.get('To')};tag={tag}\r\nTo: {invite.headers.get('From')}\r\n"
            f"Call-ID: {invite.call_id}\r\nCSeq: {number} {method}\r\nContact: <sip:bob@{self.host}:5060>\r\n"
            f"{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.world.give(self._packet(text))

    def acknowledge(self) -> None:
        """ACK the last 2xx to a re-INVITE of its own."""
        self.within("ACK", sequence=self.sequence)

    def _packet(self, text: str) -> Packet:
        return Packet(text.encode(), self.flow or Flow("udp", "udp:5060", self.host, 5060))

    def _response(
        self, request: Request, status: int, body: str = "", tag: str = "b1", extra: str = "", reason: str = "Whatever"
    ) -> str:
        to = request.headers.get("To") or ""
        tagged = to if request.to_tag or status == 100 else f"{to};tag={tag}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        vias = "".join(f"Via: {via}\r\n" for via in request.headers.lines("Via"))
        return (
            f"SIP/2.0 {status} {reason}\r\n{vias}From: {request.headers.get('From')}\r\nTo: {tagged}\r\n"
            f"Call-ID: {request.call_id}\r\nCSeq: {request.cseq.number} {request.cseq.method}\r\n"
            f"Contact: <sip:bob@{self.host}:5060>\r\n{extra}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )
