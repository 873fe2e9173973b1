"""The calls of the demo, one act each, and the judgement whether all of it happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import ClientError, ClientSession

from bridge.ambient import SystemClock, SystemTokens
from bridge.demo.application import ANSWER, BUSY, SENT_ON, Application
from bridge.demo.place import CALLEE, Place
from bridge.demo.score import Score
from bridge.net.addresses import outward_address
from bridge.phone.incoming import IncomingCall
from bridge.phone.outgoing import OutgoingCall
from bridge.phone.softphone import Phone

PATIENCE_S = 10.0
RINGS_S = 0.5
_HEARD = 50  # packets that both have to hear before they hang up: a second
_EVENTS = {
    "alice": ["call.incoming", "action.completed", "call.answered", "call.held", "call.resumed", "call.ended"],
    "bob": ["call.incoming", "call.ended"],
    "carol": ["call.incoming", "call.answered", "call.joined", "call.ended"],
    CALLEE: ["call.initiated", "call.ringing", "call.answered", "call.joined", "call.ended"],
}

T = TypeVar("T")


class DidNotHappen(Exception):  # noqa: N818 -- says what is
    """Something that everything after it depends on."""


class Acts:
    """All of them, in their order."""

    def __init__(self, place: Place, application: Application, score: Score) -> None:
        self._place = place
        self._application = application
        self._score = score
        self._clock = SystemClock()
        self._tokens = SystemTokens()
        self.doubts: list[str] = []  # what did not happen

    async def play(self) -> None:
        """Place the calls, and find out what did not happen."""
        score = self._score
        try:
            score.begin(f"Alice calls {ANSWER} and is answered; she holds, comes back, and is hung up on by REST:")
            await self._answered()
            score.begin(f"Bob calls {BUSY}, which is busy:")
            await self._busy()
            score.begin(
                f"Dave's phone registers. Carol calls {SENT_ON} and is sent to it; they talk, and she hangs up:"
            )
            await self._sent_on()
            self._judge()
        except DidNotHappen as what:
            self.doubts.append(str(what))
        unsigned = self._application.unsigned
        self._expect(unsigned == 0, f"every webhook is signed; {unsigned} were not")

    async def _answered(self) -> None:
        """Alice is answered, holds, comes back, and is hung up on by REST."""
        phone, over = await self._phone("alice"), self._application.over("alice")
        try:
            call = phone.call(self._place.uri(ANSWER))
            await self._is_answered(call, "alice")
            await asyncio.sleep(1.0)
            await self._hold_and_resume(call)
            await self._hang_up_by_rest()
            how = await self._soon(call.over(), "alice's call ends")
            self._expect(how == "remote", "the bridge hangs up on alice")
            await self._soon(over.wait(), "the application is told that alice's call has ended")
            sent, heard = phone.audio.sent, phone.audio.quality.packets_received
            counted = int(self._quality("alice").get("packets_received", 0))
            self._score.note(f"alice sent {sent} RTP packets, the bridge counted {counted}")
            self._score.note(f"she heard {heard}: silence, which keeps the way open")
            self._expect(0 < counted <= sent, f"the bridge has counted alice's RTP packets: {counted} of {sent}")
            self._expect(heard > 0, "alice has heard the bridge")
        finally:
            phone.close()

    async def _hold_and_resume(self, call: OutgoingCall) -> None:
        held = await self._soon(call.hold(), "alice's hold is answered")
        self._expect(held is not None and held.status == 200, "alice's hold is accepted")
        await asyncio.sleep(0.3)
        back = await self._soon(call.resume(), "alice's coming back is answered")
        self._expect(back is not None and back.status == 200, "alice comes back")
        await asyncio.sleep(0.5)

    async def _hang_up_by_rest(self) -> None:
        call_id = self._application.events_of("alice")[0]["data"]["call_id"]
        url = f"http://127.0.0.1:{self._place.api}/v1/calls/{call_id}"
        self._score.arrow("application", "bridge", "DELETE /v1/calls/{id}")
        headers = {"Authorization": f"Bearer {self._place.key}"}
        try:
            async with ClientSession(headers=headers) as session, session.delete(url) as answer:
                self._score.arrow("bridge", "application", f"{answer.status} {answer.reason}")
                self._expect(answer.status in (200, 202), f"DELETE is accepted, not answered {answer.status}")
        except ClientError as error:
            raise DidNotHappen(f"the REST API answers ({error})") from error

    async def _busy(self) -> None:
        """Bob calls a number that is busy."""
        phone, over = await self._phone("bob"), self._application.over("bob")
        try:
            call = phone.call(self._place.uri(BUSY))
            response = await self._soon(call.answered(), "bob gets an answer")
            self._expect(response is not None and response.status == 486, "bob gets 486 Busy Here")
            await self._soon(over.wait(), "the application is told that bob's call has ended")
        finally:
            phone.close()

    async def _sent_on(self) -> None:
        """Carol is sent to Dave, whose phone has registered, rings and answers: they hear each other."""
        application, ears = self._application, (_Ear(), _Ear())
        carol = await self._phone("carol", heard=ears[0].hear)
        dave = await self._phone(CALLEE, heard=ears[1].hear, is_callee=True)
        overs = [application.over("carol"), application.over(CALLEE)]
        try:
            registration = dave.register(self._place.uri(CALLEE), password=self._place.password)
            registered = await self._soon(registration.answered(), "dave's REGISTER is answered")
            if registered is None or registered.status != 200:
                raise DidNotHappen("dave's phone registers")
            call = carol.call(self._place.uri(SENT_ON))
            await self._is_answered(call, "carol")
            for name, ear in (("carol", ears[0]), (CALLEE, ears[1])):
                await self._soon(ear.enough.wait(), f"{name} hears {_HEARD} packets")
            call.hang_up()
            await self._soon(call.parted(), "carol's BYE is answered")
            if dave.call_now is None:
                raise DidNotHappen("dave's phone is called")
            how = await self._soon(dave.call_now.over(), "dave's call ends")
            self._expect(how == "remote", "the bridge hangs up on dave")
            for name, over in zip(("carol", CALLEE), overs, strict=True):
                await self._soon(over.wait(), f"the application is told that {name}'s call has ended")
            self._compare(carol, dave)
        finally:
            carol.close()
            dave.close()

    def _compare(self, carol: Phone, dave: Phone) -> None:
        """What one has said the bridge has passed on, and the other one has heard."""
        for name, phone, other in (("carol", carol, dave), (CALLEE, dave, carol)):
            relayed = int(self._quality(name).get("packets_relayed", 0))
            heard = other.audio.quality.packets_received
            own = f" ({heard - relayed} of the bridge's own silence)" if heard > relayed else ""
            self._score.note(
                f"{name} sent {phone.audio.sent} RTP packets, {relayed} were passed on; {other.user} heard {heard}{own}"
            )
            self._expect(
                0 < relayed <= phone.audio.sent, f"the bridge has passed on what {name} said: {relayed} packets"
            )

    async def _is_answered(self, call: OutgoingCall, name: str) -> None:
        response = await self._soon(call.answered(), f"{name} gets an answer")
        if response is None or response.status != 200:
            raise DidNotHappen(f"{name} is answered with 200")

    async def _phone(self, user: str, *, heard: Callable[[], None] | None = None, is_callee: bool = False) -> Phone:
        phone = Phone(
            user,
            clock=self._clock,
            tokens=self._tokens,
            observe=self._score.sip("callee" if is_callee else "caller"),
            heard=heard,
            called=_ring_and_answer if is_callee else None,
        )
        await phone.open(outward_address(self._place.host))
        return phone

    # Judgement

    async def _soon(self, awaited: Awaitable[T], what: str) -> T:
        try:
            return await asyncio.wait_for(awaited, PATIENCE_S)
        except TimeoutError:
            raise DidNotHappen(f"{what} within {PATIENCE_S:g} s") from None

    def _expect(self, fact: bool, what: str) -> None:  # noqa: FBT001 -- reads as the sentence it is
        if not fact:
            self.doubts.append(what)

    def _judge(self) -> None:
        registered = next((str(each["data"]["aor"]) for each in self._application.events if "aor" in each["data"]), "")
        for name, types in {**_EVENTS, registered: ["registration.created"]}.items():
            events = self._application.events_of(name)
            came = [event["type"] for event in events]
            self._expect(came == types, f"{name}'s events are {types}, in this order; they were {came}")
            numbers = [event["data"]["sequence"] for event in events]
            self._expect(numbers == list(range(1, len(numbers) + 1)), f"{name}'s events are numbered without a gap")

    def _quality(self, name: str) -> dict[str, Any]:
        """The packets of this party's call, as `call.ended` tells."""
        ended = next((each for each in self._application.events_of(name) if each["type"] == "call.ended"), None)
        return ((ended or {}).get("data", {}).get("quality")) or {}


def _ring_and_answer(call: IncomingCall) -> None:
    call.ring()
    asyncio.get_running_loop().call_later(RINGS_S, call.answer)


class _Ear:
    """Counts what a phone hears."""

    def __init__(self) -> None:
        self._packets = 0
        self.enough = asyncio.Event()

    def hear(self) -> None:
        self._packets += 1
        if self._packets >= _HEARD:
            self.enough.set()
