"""A caller and whom it is put through to, with the bridge between them."""

from __future__ import annotations

from aiohttp import web

from tests.support.application import Application, Event, Reply, Stream, actions
from tests.support.callee import Callee, IncomingCall
from tests.support.caller import Caller, OutgoingCall
from tests.support.phone import Leg, Phone
from tests.support.waiting import until


def put_through(callee: Callee) -> Reply:
    """An application that puts whoever calls a number through to that number at the callee's."""

    async def desk(event: Event) -> web.StreamResponse:
        if event["type"] != "call.incoming":
            return web.Response()
        return actions({"action": "dial", "to": callee.uri_of(event["data"]["call"]["to"]["user"])})

    return desk


class Pair:
    """A caller and whom it was put through to."""

    def __init__(self, out: OutgoingCall, into: IncomingCall) -> None:
        self.out = out
        self.into = into

    @classmethod
    async def up(cls, caller: Caller, callee: Callee, user: str) -> Pair:
        """Both are answered, and joined."""
        call = caller.call(user)
        answer = await call.invite()
        assert answer.status == 200, answer
        return cls(call, await party(callee, user))

    async def streams(self, application: Application) -> tuple[Stream, Stream]:
        return await application.stream(self.out.call_id), await application.stream(self.into.call_id)

    async def joined(self, application: Application) -> None:
        streams = await self.streams(application)
        await until(
            lambda: all("call.joined" in stream.types for stream in streams),
            lambda: f"they are joined: {[stream.types for stream in streams]}",
        )

    async def ended(self, application: Application) -> tuple[Event, Event]:
        """The last events of both."""
        first, second = await self.streams(application)
        await until(lambda: first.ended and second.ended, lambda: f"both ends are told: {first.types} {second.types}")
        assert first.ended is not None
        assert second.ended is not None
        return first.ended, second.ended


async def end_all(pairs: list[Pair], application: Application) -> None:
    """Half of them by their callers, half by their callees: always both calls end, each with the truth."""
    for number, pair in enumerate(pairs):
        first, second = (pair.out, pair.into) if number % 2 else (pair.into, pair.out)
        assert (await first.bye()).status == 200
        await second.hung_up()
        ends = {event["data"]["call"]["ended"]["reason"] for event in await pair.ended(application)}
        assert ends == {"hangup", "peer_ended"}


async def party(callee: Callee, user: str) -> IncomingCall:
    """Whom the caller of this number has been put through to."""

    def found() -> list[IncomingCall]:
        return [each for each in callee.calls.values() if f"sip:{user}@" in each.invite.start]

    return (await until(found, f"{user} is called"))[-1]


def heard(phone: Phone, leg: Leg) -> list[int]:
    """The numbers of the packets that it has heard of the other one, in the order of their coming."""
    return phone.rtp.said[leg.media_port]
