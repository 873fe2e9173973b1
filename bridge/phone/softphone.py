"""A phone that calls: the user agent client of §9.1, §13.2, §14.1 and §15.1.1 on one UDP socket.

Stands on the same transactions, dialogs and offer/answer as the service, from the other side. Everything it sends and
receives is shown to `observe`, so that a ladder can be drawn. All it sends goes where its first INVITE went, as through
an outbound proxy: it refuses to know routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from bridge.ambient import Clock, Tokens
from bridge.errors import StartError
from bridge.phone.audio import Audio, Law
from bridge.sdp.description import SessionDescription
from bridge.sdp.description import parse as parse_sdp
from bridge.sdp.offer_answer import Answered, Direction, LocalEnd, Negotiated, Unacceptable, answer, offer, read_answer
from bridge.sip.dialog import Dialog
from bridge.sip.endpoint import (
    Endpoint,
    Outcome,
    RequestArrived,
    ResponseArrived,
    TransactionEnded,
    TransactionTimedOut,
)
from bridge.sip.flow import Flow, Send
from bridge.sip.headers import reason_q850
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.transaction import Timers, TransactionKey, client_key
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.user_agent import Capabilities, check, new_invite, options_headers, refuse, respond, via_value

_LISTENER = "phone"
_CAPABILITIES = Capabilities(server="sip-bridge phone")
_GONE = frozenset({408, 481})  # what says of a request within a dialog that there is none (§12.2.1.2)

How = Literal["local", "remote", "refused", "timeout"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A SIP message that passed this phone."""

    way: Literal["in", "out"]
    message: Request | Response
    flow: Flow


class Phone(asyncio.DatagramProtocol):
    """One phone. `open`, then `call`; `close` at the end."""

    def __init__(
        self,
        user: str,
        *,
        clock: Clock,
        tokens: Tokens,
        observe: Callable[[Seen], None] | None = None,
        heard: Callable[[], None] | None = None,
        timers: Timers | None = None,
    ) -> None:
        self.user = user
        self._clock = clock
        self._tokens = tokens
        self._observe = observe
        self._endpoint = Endpoint(timers=timers or Timers())
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._calls: dict[TransactionKey, PhoneCall] = {}
        self.call_now: PhoneCall | None = None
        self.audio = Audio(clock=clock, ssrc=int(tokens.token(6), 36) & 0xFFFFFFFF, heard=heard)
        self.host = "127.0.0.1"
        self.port = 0

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind SIP and RTP. StartError when the address cannot be had."""
        self.host = host
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(host, port))
            await self.audio.open(host)
        except (OSError, StartError) as error:
            self.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise StartError(f"the phone cannot listen on {host}, port {port}: {why}") from error

    def close(self) -> None:
        self.audio.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def call(self, uri: str, *, address: tuple[str, int] | None = None, offers: bool = True) -> PhoneCall:
        """Send an INVITE. `address`: where to, if the host in the URI is a name. ValueError for what cannot be called."""
        target = callable_uri(uri)
        host, port = address or (target.host.strip("[]"), target.port or 5060)
        call = PhoneCall(self, uri, Flow("udp", _LISTENER, host, port), offers=offers)
        self.call_now = call
        call.invite()
        return call

    # What its call needs of it

    def local_end(self, version: int) -> LocalEnd:
        """Our side of the SDP."""
        return LocalEnd(self.host, self.audio.port, 1, version, "phone")

    def new_token(self, length: int = 12) -> str:
        return self._tokens.token(length)

    def via(self) -> str:
        """A Via of its own for one request."""
        return via_value("udp", self.sent_by, f"z9hG4bK{self.new_token(16)}")

    @property
    def sent_by(self) -> str:
        """Where it listens, as SIP writes it: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def contact(self) -> str:
        return f"<sip:{self.user}@{self.sent_by}>"

    def request(self, request: Request, flow: Flow, call: PhoneCall | None) -> None:
        """Send a request in a transaction whose responses go to `call`, or to nobody."""
        if call is not None:
            self._calls[client_key(request)] = call
        self._outcomes(self._endpoint.request(request, flow, now=self._clock.now()))

    def cancel(self, invite: Request) -> None:
        """CANCEL an INVITE of ours (§9.1)."""
        self._outcomes(self._endpoint.cancel(client_key(invite), now=self._clock.now()))

    def send(self, send: Send) -> None:
        """Bytes that belong to no transaction: the ACK of a 2xx."""
        if self._transport is not None:
            self._show("out", send.data, send.flow)
            self._transport.sendto(send.data, (send.flow.host, send.flow.port))

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = parse(data)
        if not isinstance(message, Request | Response):
            return
        flow = Flow("udp", _LISTENER, addr[0], addr[1])
        if self._observe is not None:
            self._observe(Seen("in", message, flow))
        self._outcomes(self._endpoint.receive(message, flow, now=self._clock.now()))

    # Outcomes

    def _outcomes(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Send():
                    self.send(outcome)
                case ResponseArrived(key, response, flow):
                    call = self._calls.get(key)
                    if call is not None:
                        call.responded(response, flow)
                case TransactionTimedOut(key):
                    call = self._calls.get(key)
                    if call is not None:
                        call.timed_out(key.method)
                case TransactionEnded(key):
                    self._calls.pop(key, None)
                case RequestArrived():
                    self._answer(outcome)
                # else: an ACK of nothing, because this phone accepts no INVITE, or a response to nothing
        self._set_timer()

    def _answer(self, arrived: RequestArrived) -> None:
        request, call = arrived.request, self.call_now
        refused = check(request, _CAPABILITIES)
        if refused is not None:
            response = refuse(request, refused)
        elif request.method == "OPTIONS":
            response = respond(request, 200, headers=options_headers(_CAPABILITIES))
        elif request.method == "CANCEL":
            response = respond(request, 200 if arrived.matches else 481)  # every INVITE has been answered at once
        elif call is None or not call.takes(request):
            outside = request.method == "INVITE" and request.to_tag is None
            response = respond(request, 486 if outside else 481)
        elif request.method == "BYE":
            response = respond(request, 200)
        else:
            response = respond(request, 488)  # a session of ours is as we made it
        self._outcomes(self._endpoint.respond(arrived.key, response, now=self._clock.now()))
        if request.method == "BYE" and call is not None and response.status == 200:
            call.hung_up(reason_q850(request))

    def _show(self, way: Literal["in", "out"], data: bytes, flow: Flow) -> None:
        if self._observe is None:
            return
        message = parse(data)
        if isinstance(message, Request | Response):
            self._observe(Seen(way, message, flow))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._endpoint.deadline()
        if deadline is not None and self._transport is not None:
            delay = max(0.0, deadline - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._outcomes(self._endpoint.wake(now=self._clock.now()))


class PhoneCall:
    """One call of a phone. Await `answered()`, then hold, resume, hang up; `over()` waits for its end."""

    def __init__(self, phone: Phone, uri: str, flow: Flow, *, offers: bool) -> None:
        self._phone = phone
        self._uri = uri
        self._flow = flow
        self._offers = offers
        self._invite: Request | None = None
        self._offer: SessionDescription | None = None
        self._version = 0
        # By CSeq and To tag: a repeated 2xx gets the same ACK again (§13.2.2.4)
        self._acks: dict[tuple[int, str | None], Send] = {}
        loop = asyncio.get_running_loop()
        self._final: asyncio.Future[Response | None] = loop.create_future()
        self._changed: asyncio.Future[Response | None] | None = None
        self._over: asyncio.Future[How] = loop.create_future()
        self._parted: asyncio.Future[Response | None] = loop.create_future()
        self._leaving = False  # we have hung up
        self.is_heard = False  # a provisional response has come: somebody is there
        self.dialog: Dialog | None = None
        self.negotiated: Negotiated | None = None
        self.disagreement: str | None = None  # why an answered call has no session, and was hung up on
        self.q850: int | None = None
        self.sip_call_id = f"{phone.new_token(20)}@{phone.host}"

    def invite(self) -> None:
        """The first INVITE."""
        phone = self._phone
        body = self._new_offer("sendrecv") if self._offers else b""
        self._invite = new_invite(
            self._uri,
            from_=f"<sip:{phone.user}@{phone.sent_by}>;tag={phone.new_token()}",
            to=f"<{self._uri}>",
            call_id=self.sip_call_id,
            sequence=1,
            via=phone.via(),
            contact=phone.contact,
            offer=body,
            capabilities=_CAPABILITIES,
        )
        phone.request(self._invite, self._flow, self)

    async def answered(self) -> Response | None:
        """The final response to the INVITE; None: nobody answered at all."""
        return await asyncio.shield(self._final)

    async def over(self) -> How:
        """Wait for the end: "local", "remote", "refused" or "timeout"."""
        return await asyncio.shield(self._over)

    async def parted(self) -> Response | None:
        """The answer to our BYE; None: nobody answered it, or none was sent."""
        return await asyncio.shield(self._parted)

    async def hold(self) -> Response | None:
        """Ask the far end to be silent (RFC 3264 §8.4). Its answer; None: it did not answer."""
        return await self._reinvite("sendonly")

    async def resume(self) -> Response | None:
        return await self._reinvite("sendrecv")

    def hang_up(self) -> None:
        """CANCEL before the answer, BYE after it; BYE too after an answer that crosses the CANCEL (§9.1)."""
        if self._over.done() or self._leaving or self._invite is None:
            return
        self._leaving = True
        if self.dialog is None:
            self._phone.cancel(self._invite)
        else:
            self._say_bye(self.dialog)

    # What the phone tells it

    def takes(self, request: Request) -> bool:
        """Whether a request belongs to this call's dialog."""
        dialog = self.dialog
        return (
            dialog is not None
            and request.call_id == dialog.call_id
            and request.to_tag == dialog.local_tag
            and request.from_tag == dialog.remote_tag
        )

    def responded(self, response: Response, flow: Flow) -> None:
        method, number = response.cseq.method, response.cseq.number
        if response.status < 200:
            self.is_heard = True
        elif method == "BYE":
            self._settle(self._parted, response)
        elif method == "INVITE" and response.status >= 300:
            self._refused(response)
        elif method == "INVITE":
            again = (number, response.to_tag)
            if again not in self._acks:
                self._acks[again] = self._accepted(response, flow)
            else:
                self._phone.send(self._acks[again])

    def timed_out(self, method: str) -> None:
        """Nobody has answered our request."""
        if method == "BYE":
            self._settle(self._parted, None)
        elif method == "INVITE" and self.dialog is None:
            self._settle(self._final, None)
            self._end("local" if self._leaving else "timeout")
        elif method == "INVITE":
            self._settle(self._changed, None)
            self.hang_up()  # §14.1: as if it had been answered 408

    def hung_up(self, q850: int | None) -> None:
        """A BYE has come."""
        self.q850 = q850
        self._end("remote")

    def _accepted(self, response: Response, flow: Flow) -> Send:
        """The first copy of a 2xx: its ACK, which has been sent, and what follows from it."""
        invite, dialog = self._invite, self.dialog
        if invite is None:
            raise AssertionError("an answer needs an INVITE")
        if dialog is None:
            dialog = self.dialog = Dialog.as_client(invite, response, flow)
        elif (response.to_tag or "") != dialog.remote_tag:
            return self._decline(Dialog.as_client(invite, response, flow), response)
        dialog.refresh_target(response)
        sdp = self._agree(response)
        ack = self._acknowledge(dialog, response, sdp)
        self._settle(self._final if response.cseq.number == 1 else self._changed, response)
        if self.disagreement is not None:
            self.hang_up()  # §13.2.2.4: acknowledged first
        elif self._leaving and not self._over.done():
            self._say_bye(dialog)  # it has crossed our CANCEL
        elif not self._over.done():
            self._speak_or_not()
        return ack

    def _decline(self, other: Dialog, response: Response) -> Send:
        """Somebody else has answered too, behind a proxy that forks: one dialog is enough (§13.2.2.4)."""
        ack = self._acknowledge(other, response, b"")
        self._phone.request(other.new_request("BYE", via=self._phone.via()), self._flow, None)
        return ack

    def _acknowledge(self, dialog: Dialog, response: Response, sdp: bytes) -> Send:
        headers = (("Content-Type", "application/sdp"),) if sdp else ()
        ack = dialog.ack_for(response, via=self._phone.via(), headers=headers, body=sdp)
        sent = Send(self._flow, ack.encode())
        self._phone.send(sent)
        return sent

    def _say_bye(self, dialog: Dialog) -> None:
        self._end("local", parted=False)
        self._phone.request(dialog.new_request("BYE", via=self._phone.via()), self._flow, self)

    def _agree(self, response: Response) -> bytes:
        """Take the answer, or give one to a delayed offer; `disagreement` says why there is none."""
        description = parse_sdp(response.body)
        if not isinstance(description, SessionDescription):
            self.disagreement = f"no SDP in its answer: {description.reason}"
        elif self._offer is not None:
            agreed = read_answer(self._offer, description)
            if not isinstance(agreed, Unacceptable):
                self.negotiated = agreed
                return b""
            self.disagreement = agreed.warning_text
        else:
            self._version += 1
            taken = answer(description, self._phone.local_end(self._version))
            if isinstance(taken, Answered):
                self.negotiated = taken.negotiated
                return taken.description.encode()
            self.disagreement = taken.warning_text
        return b""

    def _speak_or_not(self) -> None:
        agreed, audio = self.negotiated, self._phone.audio
        if agreed is None or agreed.direction not in ("sendrecv", "sendonly"):
            audio.stop()
            return
        law: Law = "PCMU" if agreed.codec.name == "PCMU" else "PCMA"
        audio.speak(agreed.remote_host, agreed.remote_port, payload_type=agreed.codec.payload_type, law=law)

    async def _reinvite(self, direction: Direction) -> Response | None:
        if self.dialog is None or self._over.done():
            raise ValueError("there is no answered call to change")
        if self._changed is not None and not self._changed.done():
            raise ValueError("a change of this call is under way (§14.1)")
        changed: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self._changed = changed
        request = self.dialog.new_request(
            "INVITE",
            via=self._phone.via(),
            contact=self._phone.contact,
            headers=(("Content-Type", "application/sdp"),),
            body=self._new_offer(direction),
        )
        self._phone.request(request, self._flow, self)
        return await changed

    def _new_offer(self, direction: Direction) -> bytes:
        self._version += 1
        self._offer = offer(self._phone.local_end(self._version), direction=direction)
        return self._offer.encode()

    def _refused(self, response: Response) -> None:
        if self.dialog is None:
            self._settle(self._final, response)
            self._end("local" if self._leaving else "refused")
            return
        self._settle(self._changed, response)
        if response.status in _GONE:
            self.hang_up()

    def _end(self, how: How, *, parted: bool = True) -> None:
        """It is over. `parted`: no BYE of ours is under way."""
        self._phone.audio.stop()
        self._settle(self._over, how)
        self._settle(self._changed, None)
        if parted:
            self._settle(self._parted, None)

    @staticmethod
    def _settle(waiting: asyncio.Future[T] | None, result: T) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(result)


def callable_uri(uri: str) -> SipUri:
    """`uri`, if this phone can call it. ValueError says what would be right."""
    target = parse_uri(uri)
    if not isinstance(target, SipUri):
        raise ValueError(f"{uri} is no SIP URI, such as sip:100@127.0.0.1:5060")
    if target.scheme != "sip" or target.transport not in (None, "udp"):
        raise ValueError(f"{uri} asks for more than UDP, which is all this phone speaks")
    return target
