"""A phone on one UDP socket: it makes calls, takes them, and registers. One call at a time.

Stands on the same transactions, dialogs and offer/answer as the service. Everything it sends and receives is shown to
`observe`, so that a ladder can be drawn. This is the socket and what comes over it; calls and registrations are chapters
of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from bridge.ambient import Clock, Tokens
from bridge.errors import StartError
from bridge.phone.audio import Audio
from bridge.phone.call import PhoneCall
from bridge.phone.incoming import IncomingCall
from bridge.phone.line import CAPABILITIES, LISTENER, Asker
from bridge.phone.outgoing import OutgoingCall
from bridge.phone.registration import EXPIRES_S, Registration
from bridge.sdp.negotiated import LocalEnd
from bridge.sip.endpoint import (
    AckArrived,
    Endpoint,
    Outcome,
    RequestArrived,
    ResponseArrived,
    TransactionEnded,
    TransactionTimedOut,
)
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.transaction import Timers, TransactionKey, client_key
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.user_agent import check, options_headers, refuse, respond, via_value

_DEFAULT_PORT = 5060


@dataclass(frozen=True, slots=True)
class Seen:
    """A SIP message that passed this phone."""

    way: Literal["in", "out"]
    message: Request | Response
    flow: Flow


class Phone(asyncio.DatagramProtocol):
    """One phone. `open`, then `call`, `register` or wait to be called; `close` at the end."""

    def __init__(
        self,
        user: str,
        *,
        clock: Clock,
        tokens: Tokens,
        observe: Callable[[Seen], None] | None = None,
        heard: Callable[[], None] | None = None,
        called: Callable[[IncomingCall], None] | None = None,
        timers: Timers | None = None,
    ) -> None:
        """`called` decides about a call that comes while there is none; without it, as during another, it is busy."""
        self.user = user
        self.timers = timers or Timers()
        self._clock = clock
        self._tokens = tokens
        self._observe = observe
        self._called = called
        self._endpoint = Endpoint(timers=self.timers)
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._askers: dict[TransactionKey, Asker] = {}
        self._registration: Registration | None = None
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
        """At once, without a word to anybody: hang up and unregister before."""
        self.audio.close()
        if self._registration is not None:
            self._registration.stop()
        if self.call_now is not None:
            self.call_now.abandon()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def call(self, uri: str, *, address: tuple[str, int] | None = None, offers: bool = True) -> OutgoingCall:
        """Send an INVITE. `address`: where to, if the host in the URI is a name. ValueError for what cannot be called."""
        call = OutgoingCall(self, uri, self._way(callable_uri(uri), address), offers=offers)
        self._begin(call)
        call.invite()
        return call

    def register(
        self,
        uri: str,
        *,
        password: str,
        username: str | None = None,
        address: tuple[str, int] | None = None,
        expires_s: int = EXPIRES_S,
        told: Callable[[Response | None], None] | None = None,
    ) -> Registration:
        """Register for an address of record at its host, and stay so. ValueError for what cannot be registered."""
        aor = callable_uri(uri)
        if not aor.user:
            raise ValueError(f"{uri} has no user, as sip:alice@127.0.0.1:5060 has")
        flow, name = self._way(aor, address), username or aor.user
        made = Registration(self, aor, flow, username=name, password=password, expires_s=expires_s, told=told)
        self._registration = made
        made.begin()
        return made

    # What its calls need of it

    def local_end(self, version: int) -> LocalEnd:
        return LocalEnd(self.host, self.audio.port, 1, version, "phone")

    def new_token(self, length: int = 12) -> str:
        return self._tokens.token(length)

    def via(self) -> str:
        return via_value("udp", self.sent_by, f"z9hG4bK{self.new_token(16)}")

    @property
    def sent_by(self) -> str:
        """Where it listens, as SIP writes it: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def contact(self) -> str:
        return f"<sip:{self.user}@{self.sent_by}>"

    def request(self, request: Request, flow: Flow, asker: Asker | None) -> None:
        if asker is not None:
            self._askers[client_key(request)] = asker
        self._outcomes(self._endpoint.request(request, flow, now=self._clock.now()))

    def cancel(self, invite: Request) -> None:
        self._outcomes(self._endpoint.cancel(client_key(invite), now=self._clock.now()))

    def respond(self, key: TransactionKey, response: Response) -> None:
        if self._endpoint.state(key) is not None:
            self._outcomes(self._endpoint.respond(key, response, now=self._clock.now()))

    def send(self, send: Send) -> None:
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
        flow = Flow("udp", LISTENER, addr[0], addr[1])
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
                    asker = self._askers.get(key)
                    if asker is not None:
                        asker.responded(response, flow)
                case TransactionTimedOut(key):
                    asker = self._askers.get(key)
                    if asker is not None:
                        asker.timed_out(key.method)
                case TransactionEnded(key):
                    self._askers.pop(key, None)
                case RequestArrived():
                    self._asked(outcome)
                case AckArrived(request):
                    if self.call_now is not None and self.call_now.takes(request):
                        self.call_now.acknowledged(request)
                # else: a response to nothing
        self._set_timer()

    def _asked(self, arrived: RequestArrived) -> None:
        request, call = arrived.request, self.call_now
        refused = check(request, CAPABILITIES)
        if refused is not None:
            self.respond(arrived.key, refuse(request, refused))
        elif arrived.merged:
            self.respond(arrived.key, respond(request, 482))
        elif request.method == "OPTIONS":
            self.respond(arrived.key, respond(request, 200, headers=options_headers(CAPABILITIES)))
        elif request.method == "CANCEL":
            self.respond(arrived.key, respond(request, 200 if arrived.matches else 481))
            if arrived.matches is not None and isinstance(call, IncomingCall):
                call.canceled(arrived.matches)
        elif request.method == "INVITE" and request.to_tag is None:
            self._invited(arrived)
        elif call is None or not call.takes(request):
            self.respond(arrived.key, respond(request, 481))
        elif request.method == "BYE":
            self.respond(arrived.key, respond(request, 200))
            call.hung_up(request)
        else:
            call.reinvited(arrived)

    def _invited(self, arrived: RequestArrived) -> None:
        busy = self.call_now is not None and not self.call_now.is_over
        if self._called is None or busy:
            self.respond(arrived.key, respond(arrived.request, 486))
            return
        call = IncomingCall(self, arrived)
        self._begin(call)
        self._called(call)

    def _begin(self, call: PhoneCall) -> None:
        """From now on this is the call: whatever was before it is left."""
        if self.call_now is not None:
            self.call_now.abandon()
        self.audio.begin()
        self.call_now = call

    def _way(self, uri: SipUri, address: tuple[str, int] | None) -> Flow:
        host, port = address or (uri.host.strip("[]"), uri.port or _DEFAULT_PORT)
        return Flow("udp", LISTENER, host, port)

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


def callable_uri(uri: str) -> SipUri:
    """`uri`, if this phone can call it. ValueError says what would be right."""
    target = parse_uri(uri)
    if not isinstance(target, SipUri):
        raise ValueError(f"{uri} is no SIP URI, such as sip:100@127.0.0.1:5060")
    if target.scheme != "sip" or target.transport not in (None, "udp"):
        raise ValueError(f"{uri} asks for more than UDP, which is all this phone speaks")
    return target
