"""A call of a phone once there is a dialog, whoever began it: changes of its session by either side (§14), and its end
(§15). How it begins is `outgoing`'s and `incoming`'s.

Holds one offer/answer at a time, and speaks or is silent as it says. All it sends goes where its first message went or
came from, as through an outbound proxy: it refuses to know routing.
"""

from __future__ import annotations

import asyncio
from typing import Literal, TypeVar

from bridge.phone.audio import Law
from bridge.phone.line import CAPABILITIES, Line
from bridge.sdp.description import SessionDescription
from bridge.sdp.description import parse as parse_sdp
from bridge.sdp.offer_answer import Answered as SdpAnswered
from bridge.sdp.offer_answer import Direction, Negotiated, Unacceptable, answer, offer, read_answer
from bridge.sip.dialog import Dialog, StaleSequence
from bridge.sip.endpoint import RequestArrived, response_flow
from bridge.sip.flow import Flow, Send
from bridge.sip.headers import reason_q850
from bridge.sip.invite_usage import (
    AckMissing,
    Acknowledged,
    AckReceived,
    Answered,
    AnswerReceived,
    ArmUsage,
    ByeAllowed,
    ByeReceived,
    Declined,
    DisarmUsage,
    HangUp,
    InviteArrived,
    InviteFailed,
    InviteSent,
    InviteUsage,
    RefuseInvite,
    RepeatResponse,
    UsageEffects,
    UsageFired,
    UsageState,
    UsageTimer,
)
from bridge.sip.message import Request, Response
from bridge.sip.user_agent import respond

_GONE = frozenset({408, 481})  # what says of a request within a dialog that there is none (§12.2.1.2)
_SDP = (("Content-Type", "application/sdp"),)

How = Literal["local", "remote", "refused", "timeout"]
T = TypeVar("T")


class PhoneCall:
    """One call. Await `answered()`, then hold, resume, hang up; `over()` waits for its end."""

    def __init__(self, line: Line, flow: Flow) -> None:
        self._line = line
        self._flow = flow
        self._usage = InviteUsage(line.timers)
        self._timers: dict[UsageTimer, asyncio.TimerHandle] = {}
        self._offer: SessionDescription | None = None  # ours, whose answer is read next
        self._direction: Direction = "sendrecv"  # what we want of the session
        self._asked: Direction = "sendrecv"  # and what our last offer asked for
        self._version = 0
        # By CSeq and To tag: a repeated 2xx gets the same ACK again (§13.2.2.4)
        self._acks: dict[tuple[int, str | None], Send] = {}
        loop = asyncio.get_running_loop()
        self._final: asyncio.Future[Response | None] = loop.create_future()
        self._changed: asyncio.Future[Response | None] | None = None
        self._over: asyncio.Future[How] = loop.create_future()
        self._parted: asyncio.Future[Response | None] = loop.create_future()
        self._pending: RequestArrived | None = None  # an INVITE of theirs that waits for our final response
        self.dialog: Dialog | None = None
        self.negotiated: Negotiated | None = None
        self.disagreement: str | None = None  # why an answered call has no session, and was hung up on
        self.q850: int | None = None

    async def answered(self) -> Response | None:
        """The final response to the INVITE: theirs, or ours once it is acknowledged. None: nobody has said anything."""
        return await asyncio.shield(self._final)

    async def over(self) -> How:
        """Wait for the end: "local", "remote", "refused" or "timeout"."""
        return await asyncio.shield(self._over)

    async def parted(self) -> Response | None:
        """The answer to our BYE; None: nobody answered it, or none was sent."""
        return await asyncio.shield(self._parted)

    @property
    def is_over(self) -> bool:
        return self._over.done()

    async def hold(self) -> Response | None:
        """Ask the far end to be silent (RFC 3264 §8.4). Its answer; None: it did not answer."""
        return await self._reinvite("sendonly")

    async def resume(self) -> Response | None:
        return await self._reinvite("sendrecv")

    def hang_up(self) -> None:
        """End it, in whatever way is right by now."""
        if not self._over.done() and self.dialog is not None:
            self._leave()

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
        """To a re-INVITE or the BYE; the first INVITE is another chapter."""
        number = response.cseq.number
        if response.status < 200:
            return
        if response.cseq.method == "BYE":
            self._settle(self._parted, response)
        elif response.status < 300:
            again = (number, response.to_tag)
            if again in self._acks:
                self._line.send(self._acks[again])
            else:
                self._usage_effects(self._usage.step(AnswerReceived(number)))
                self._acks[again] = self._accepted(response, flow)
        else:
            self._usage_effects(self._usage.step(InviteFailed(number)))
            self._settle(self._changed, response)
            if response.status in _GONE:
                self.hang_up()

    def timed_out(self, method: str) -> None:
        """Nobody has answered our request."""
        if method == "BYE":
            self._settle(self._parted, None)
        else:
            self._settle(self._changed, None)
            self.hang_up()  # §14.1: as if it had been answered 408

    def hung_up(self, bye: Request) -> None:
        """A BYE has come, and is answered."""
        self.q850 = reason_q850(bye)
        self._usage_effects(self._usage.step(ByeReceived()))
        self._end("remote")

    def reinvited(self, arrived: RequestArrived) -> None:
        """An INVITE within the dialog: another session, or the same one held or taken back (§14.2)."""
        request, number = arrived.request, arrived.request.cseq.number
        if self.dialog is None or self._over.done():
            self._line.respond(arrived.key, respond(request, 481))
            return
        if isinstance(self.dialog.admits(request), StaleSequence):
            self._line.respond(arrived.key, respond(request, 500, "Stale CSeq"))
            return
        refusals = [each for each in self._usage.step(InviteArrived(number)) if isinstance(each, RefuseInvite)]
        if refusals:
            later = (("Retry-After", str(number % 11)),) if refusals[0].status == 500 else ()
            self._line.respond(arrived.key, respond(request, refusals[0].status, headers=later))
            return
        self.dialog.refresh_target(request)
        self._pending = arrived
        self._accept()
        self.disagreement = None  # a change that cannot be had leaves the session as it was

    def acknowledged(self, ack: Request) -> None:
        """An ACK that is no transaction's: it ends the repetition of our 2xx, and may bring the answer."""
        self._usage_effects(self._usage.step(AckReceived(ack)))

    # Theirs to ask, ours to answer

    def _accept(self) -> Response:
        """200 to the INVITE that waits, with our answer, or our offer where it has none; 488 where nothing fits."""
        arrived = self._pending
        if arrived is None:
            raise AssertionError("nobody waits for an answer")
        request, self._pending = arrived.request, None
        body = self._answer_to(request.body) if request.body else self._new_offer(self._direction)
        if not body:
            return self._decline(arrived, 488)
        lines = (("Allow", ", ".join(CAPABILITIES.methods)), ("Server", CAPABILITIES.server or ""), *_SDP)
        response = respond(request, 200, to_tag=self._tag, contact=self._line.contact, headers=lines, body=body)
        self._line.respond(arrived.key, response)
        sent = Send(response_flow(request, arrived.flow), response.encode())
        self._usage_effects(self._usage.step(Answered(request.cseq.number, sent)))
        return response

    def _decline(self, arrived: RequestArrived, status: int) -> Response:
        response = respond(arrived.request, status, to_tag=self._tag)
        self._line.respond(arrived.key, response)
        self._usage_effects(self._usage.step(Declined(arrived.request.cseq.number)))
        return response

    @property
    def _tag(self) -> str | None:
        """Ours."""
        return None if self.dialog is None else self.dialog.local_tag

    def _answer_to(self, body: bytes) -> bytes:
        """Our answer to an offer, and from now on our session; nothing, and a disagreement, where it cannot be taken."""
        description = parse_sdp(body)
        if not isinstance(description, SessionDescription):
            self.disagreement = f"no SDP: {description.reason}"
            return b""
        self._version += 1
        taken = answer(description, self._line.local_end(self._version), direction=self._direction)
        if not isinstance(taken, SdpAnswered):
            self.disagreement = taken.warning_text
            return b""
        self.negotiated, self._offer, self.disagreement = taken.negotiated, None, None
        return taken.description.encode()

    def _confirmed(self, ack: Request) -> None:
        """The ACK of our 2xx: the session stands, unless its answer to our offer says otherwise."""
        if self._offer is not None:
            self._read(ack.body)
        self._go_on()

    # Ours to ask, theirs to answer

    async def _reinvite(self, direction: Direction) -> Response | None:
        if self.dialog is None or self._over.done():
            raise ValueError("there is no answered call to change")
        if self._usage.state is not UsageState.IDLE:
            raise ValueError("a change of this call is under way (§14.1)")
        changed: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self._changed, self._asked = changed, direction
        request = self.dialog.new_request(
            "INVITE",
            via=self._line.via(),
            contact=self._line.contact,
            headers=_SDP,
            body=self._new_offer(direction),
        )
        self._usage.step(InviteSent(request.cseq.number))
        self._line.request(request, self._flow, self)
        return await changed

    def _accepted(self, response: Response, flow: Flow) -> Send:
        """The first copy of a 2xx to a re-INVITE: its ACK, which has been sent, and what follows from it."""
        if self.dialog is None:
            raise AssertionError("a re-INVITE has a dialog")
        self.dialog.refresh_target(response)
        self._direction = self._asked
        sdp = self._agree(response)
        ack = self._acknowledge(self.dialog, response, sdp)
        self._settle(self._changed, response)
        self._go_on()
        return ack

    def _go_on(self) -> None:
        """After an ACK, ours or theirs: hang up where there is no session, else speak as the session says."""
        if self.disagreement is not None:
            self.hang_up()  # §13.2.2.4: acknowledged first
        elif not self._over.done():
            self._speak_or_not()

    def _acknowledge(self, dialog: Dialog, response: Response, sdp: bytes) -> Send:
        ack = dialog.ack_for(response, via=self._line.via(), headers=_SDP if sdp else (), body=sdp)
        sent = Send(self._flow, ack.encode())
        self._line.send(sent)
        return sent

    def _agree(self, response: Response) -> bytes:
        """Take the answer, or give one to a delayed offer; `disagreement` says why there is none."""
        if self._offer is not None:
            self._read(response.body)
            return b""
        return self._answer_to(response.body)

    def _read(self, body: bytes) -> None:
        """The answer to our offer."""
        ours, self._offer = self._offer, None
        description = parse_sdp(body)
        if not isinstance(description, SessionDescription):
            self.disagreement = f"no SDP in its answer: {description.reason}"
            return
        if ours is None:
            raise AssertionError("an answer needs an offer")
        agreed = read_answer(ours, description)
        if isinstance(agreed, Unacceptable):
            self.disagreement = agreed.warning_text
        else:
            self.negotiated = agreed

    def _new_offer(self, direction: Direction) -> bytes:
        self._version += 1
        self._offer = offer(self._line.local_end(self._version), direction=direction)
        return self._offer.encode()

    def _speak_or_not(self) -> None:
        agreed, audio = self.negotiated, self._line.audio
        if agreed is None or agreed.direction not in ("sendrecv", "sendonly"):
            audio.stop()
            return
        law: Law = "PCMU" if agreed.codec.name == "PCMU" else "PCMA"
        audio.speak(agreed.remote_host, agreed.remote_port, payload_type=agreed.codec.payload_type, law=law)

    # The end

    def _leave(self) -> None:
        """A BYE, as soon as one is allowed."""
        self._end("local", parted=False)
        self._usage_effects(self._usage.step(HangUp()))

    def _end(self, how: How, *, parted: bool = True) -> None:
        """It is over. `parted`: no BYE of ours is under way."""
        self._line.audio.stop()
        self._settle(self._over, how)
        self._settle(self._changed, None)
        if parted:
            self._settle(self._parted, None)

    # The INVITE usage (RFC 5057) and its timers

    def _usage_effects(self, effects: UsageEffects) -> None:
        for effect in effects:
            match effect:
                case RepeatResponse(send):
                    self._line.send(send)
                case ArmUsage(timer, delay):
                    self._disarm(timer)
                    self._timers[timer] = asyncio.get_running_loop().call_later(delay, self._fire, timer)
                case DisarmUsage(timer):
                    self._disarm(timer)
                case Acknowledged(_, ack):
                    self._confirmed(ack)
                case AckMissing():
                    self.hang_up()  # §13.3.1.4
                case RefuseInvite(_, status) if self._pending is not None:
                    arrived, self._pending = self._pending, None
                    self._line.respond(arrived.key, respond(arrived.request, status, to_tag=self._tag))
                case ByeAllowed() if self.dialog is not None:
                    self._line.request(self.dialog.new_request("BYE", via=self._line.via()), self._flow, self)

    def _fire(self, timer: UsageTimer) -> None:
        self._timers.pop(timer, None)
        self._usage_effects(self._usage.step(UsageFired(timer)))

    def _disarm(self, timer: UsageTimer) -> None:
        armed = self._timers.pop(timer, None)
        if armed is not None:
            armed.cancel()

    def abandon(self) -> None:
        """The phone is gone: its timers too."""
        for timer in list(self._timers):
            self._disarm(timer)

    @staticmethod
    def _settle(waiting: asyncio.Future[T] | None, result: T) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(result)
