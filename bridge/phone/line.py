"""What the parts of a phone know of it: its socket, its transactions, its name. And what it knows of them."""

from __future__ import annotations

from typing import Final, Protocol

from bridge.phone.audio import Audio
from bridge.sdp.negotiated import LocalEnd
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request, Response
from bridge.sip.transaction import Timers, TransactionKey
from bridge.sip.user_agent import Capabilities

LISTENER: Final = "phone"
CAPABILITIES: Final = Capabilities(
    methods=("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS"), info_types=(), server="sip-bridge phone"
)


class Asker(Protocol):
    """Who waits for the responses to a request."""

    def responded(self, response: Response, flow: Flow) -> None:
        """One has come, provisional or final; of an INVITE's 2xx each copy."""
        ...

    def timed_out(self, method: str) -> None:
        """None will come."""
        ...


class Line(Protocol):
    """The phone, as a call or a registration of its sees it."""

    user: str
    host: str
    audio: Audio
    timers: Timers

    @property
    def sent_by(self) -> str: ...

    @property
    def contact(self) -> str: ...

    def local_end(self, version: int) -> LocalEnd:
        """Our side of the SDP."""
        ...

    def new_token(self, length: int = 12) -> str: ...

    def via(self) -> str:
        """A Via of its own for one request."""
        ...

    def request(self, request: Request, flow: Flow, asker: Asker | None) -> None:
        """Send a request in a transaction whose responses go to `asker`, or to nobody."""
        ...

    def cancel(self, invite: Request) -> None:
        """CANCEL an INVITE of ours (§9.1)."""
        ...

    def respond(self, key: TransactionKey, response: Response) -> None:
        """Answer a request, where somebody still waits for that."""
        ...

    def send(self, send: Send) -> None:
        """Bytes that belong to no transaction: an ACK of a 2xx, and a 2xx once more."""
        ...
