"""A call that comes to the phone: it rings, is answered or rejected, or the caller gives up (§13.3, §9.2)."""

from __future__ import annotations

from bridge.phone.call import PhoneCall
from bridge.phone.line import Line
from bridge.sip.dialog import Dialog
from bridge.sip.endpoint import RequestArrived
from bridge.sip.invite_usage import InviteArrived
from bridge.sip.message import Request
from bridge.sip.transaction import TransactionKey
from bridge.sip.user_agent import respond


class IncomingCall(PhoneCall):
    """One call from somebody. Ring it, answer it or reject it."""

    def __init__(self, line: Line, arrived: RequestArrived) -> None:
        super().__init__(line, arrived.flow)
        self.request = arrived.request
        self.dialog = Dialog.as_server(arrived.request, line.new_token(), arrived.flow)
        self._pending = arrived
        self._usage.step(InviteArrived(arrived.request.cseq.number))

    @property
    def is_waiting(self) -> bool:
        """True while it has neither been answered nor come to nothing."""
        return self._pending is not None

    def ring(self) -> None:
        """180. Nothing once it is decided."""
        if self._pending is not None:
            response = respond(self.request, 180, to_tag=self._tag, contact=self._line.contact)
            self._line.respond(self._pending.key, response)

    def answer(self) -> None:
        """200 with SDP, repeated until its ACK; 488 where no codec fits. Nothing once it is decided."""
        if self._pending is None or self.dialog is None:
            return
        response = self._accept()
        if response.status == 200:
            self.dialog.confirm()
        else:
            self._settle(self._final, response)
            self._end("refused")

    def reject(self, status: int) -> None:
        """Refuse it with this status. Nothing once it is decided."""
        arrived, self._pending = self._pending, None
        if arrived is not None:
            self._settle(self._final, self._decline(arrived, status))
            self._end("refused")

    def hang_up(self) -> None:
        """Refuse it while it rings, end it by BYE after our 200: once that is acknowledged, or has waited long enough (§15)."""
        if self._pending is not None:
            self.reject(480)
        else:
            super().hang_up()

    def canceled(self, key: TransactionKey) -> None:
        """The caller has given up on this INVITE; after our answer that changes nothing (§9.2)."""
        arrived = self._pending
        if arrived is not None and arrived.key == key:
            self._pending = None
            self._settle(self._final, self._decline(arrived, 487))
            self._end("remote")

    def _confirmed(self, ack: Request) -> None:
        super()._confirmed(ack)
        self._settle(self._final, respond(self.request, 200, to_tag=self._tag))
