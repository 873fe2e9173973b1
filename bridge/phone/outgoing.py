"""A call that the phone makes: INVITE, what comes of it, CANCEL (§13.2, §9.1). The user agent client's side."""

from __future__ import annotations

from bridge.phone.call import PhoneCall
from bridge.phone.line import CAPABILITIES, Line
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request, Response
from bridge.sip.user_agent import new_invite


class OutgoingCall(PhoneCall):
    """One call to a URI. `invite` begins it."""

    def __init__(self, line: Line, uri: str, flow: Flow, *, offers: bool) -> None:
        super().__init__(line, flow)
        self._uri = uri
        self._offers = offers
        self._invite: Request | None = None
        self._leaving = False  # we have hung up
        self.is_heard = False  # a provisional response has come: somebody is there
        self.sip_call_id = f"{line.new_token(20)}@{line.host}"

    def invite(self) -> None:
        """The first INVITE."""
        line = self._line
        self._invite = new_invite(
            self._uri,
            from_=f"<sip:{line.user}@{line.sent_by}>;tag={line.new_token()}",
            to=f"<{self._uri}>",
            call_id=self.sip_call_id,
            sequence=1,
            via=line.via(),
            contact=line.contact,
            offer=self._new_offer("sendrecv") if self._offers else b"",
            capabilities=CAPABILITIES,
        )
        line.request(self._invite, self._flow, self)

    def hang_up(self) -> None:
        """CANCEL before the answer, BYE after it; BYE too after an answer that crosses the CANCEL (§9.1)."""
        if self._over.done() or self._leaving or self._invite is None:
            return
        self._leaving = True
        if self.dialog is None:
            self._line.cancel(self._invite)
        else:
            self._leave()

    def responded(self, response: Response, flow: Flow) -> None:
        first = response.cseq == (1, "INVITE")
        if not first:
            super().responded(response, flow)
        elif response.status < 200:
            self.is_heard = True
        elif response.status >= 300:
            self._settle(self._final, response)
            self._end("local" if self._leaving else "refused")
        elif (1, response.to_tag) in self._acks:
            self._line.send(self._acks[1, response.to_tag])
        else:
            self._acks[1, response.to_tag] = self._taken(response, flow)

    def timed_out(self, method: str) -> None:
        if method == "INVITE" and self.dialog is None:
            self._settle(self._final, None)
            self._end("local" if self._leaving else "timeout")
        else:
            super().timed_out(method)

    def _taken(self, response: Response, flow: Flow) -> Send:
        """The first copy of a 2xx to the first INVITE: its ACK, which has been sent, and what follows from it."""
        if self._invite is None:
            raise AssertionError("an answer needs an INVITE")
        dialog = Dialog.as_client(self._invite, response, flow)
        if self.dialog is not None:
            # Somebody else has answered too, behind a proxy that forks: one dialog is enough (§13.2.2.4).
            ack = self._acknowledge(dialog, response, b"")
            self._line.request(dialog.new_request("BYE", via=self._line.via()), self._flow, None)
            return ack
        self.dialog = dialog
        sdp = self._agree(response)
        ack = self._acknowledge(dialog, response, sdp)
        self._settle(self._final, response)
        if self._leaving and self.disagreement is None:
            self._leave()  # it has crossed our CANCEL
        else:
            self._go_on()
        return ack
