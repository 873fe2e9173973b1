"""Two baresips put through to each other: by their addresses, and by their names once they are registered."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.application import Application, Event, Listed, Stream, actions, is_call
from tests.support.baresip import Baresip
from tests.support.certificates import Authority
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.interop, pytest.mark.load, pytest.mark.asyncio(loop_scope="module")]

PASSWORDS = {"alice": "looking-glass", "bob": "builder"}
AUDIBLE = 20  # packets: a moment of somebody's voice
TALK = (
    300  # packets of both together, each counted when it comes and when it leaves: one may begin later than the other
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("phones")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application, authority: Authority) -> Served:
    users = [{"username": name, "password": password} for name, password in PASSWORDS.items()]
    pair = authority.pair(addresses=["127.0.0.1"], common_name="127.0.0.1")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    return await scene.bridge(application, store="memory://", config={"users": users, "sip": {"tls": tls}})


class Line:
    """Who calls, who is called, and under which address."""

    def __init__(self, bridge: Served, application: Application, phones: tuple[Baresip, Baresip], target: str) -> None:
        self.bridge = bridge
        self.application = application
        self.caller, self.callee = phones
        self.target = target
        self.number = f"sip:100@127.0.0.1:{bridge.sip_port}"
        self._before = set(application.streams)
        application.reply = self._decide

    @property
    def streams(self) -> dict[str, Stream]:
        """Of this line's calls, the caller's first."""
        known = self.application.streams.items()
        return {name: stream for name, stream in known if name not in self._before and is_call(name)}

    async def _decide(self, event: Event) -> web.StreamResponse:
        put_through: Listed = {"action": "dial", "to": self.target}
        return actions(put_through) if event["type"] == "call.incoming" else web.Response()

    async def up(self) -> tuple[str, str]:
        """Both calls by their ids, the caller's first, once they are joined and either phone hears the other."""
        await self.caller.command("dial", self.number)
        await self.callee.event("CALL_INCOMING")
        await self.caller.event("CALL_RINGING")
        await self.callee.command("accept")
        for phone in (self.caller, self.callee):
            await phone.event("CALL_ESTABLISHED")
            await phone.event("CALL_RTPESTAB")
        inbound, outbound = self.streams
        for name in (inbound, outbound):
            await self.application.event("call.joined", call=name)
        return inbound, outbound

    async def over(self) -> None:
        await until(lambda: len(self.streams) == 2, "both calls are known")
        await self.application.all_ended(2)
        self.application.judge()

    async def ended(self) -> list[Event]:
        """The last events of both calls, of which each phone was heard."""
        await self.over()
        ends = [stream.events[-1] for stream in self.streams.values()]
        for end in ends:
            quality = end["data"]["quality"]
            assert quality["packets_relayed"] >= AUDIBLE
            assert quality["packets_lost"] == quality["invalid"] == 0
        return ends

    async def talk(self) -> None:
        """Until the worker has relayed a moment of their voices more."""
        before = await self._packets()

        async def heard() -> bool:
            return await self._packets() >= before + TALK

        await until_awaited(heard, "they are heard")

    async def _packets(self) -> float:
        return (await self.bridge.metrics())["bridge_media_packets_total"]


@pytest_asyncio.fixture(params=["by address", "udp", "tcp", "tls"], loop_scope="module")
async def line(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    bridge: Served,
    application: Application,
    authority: Authority,
) -> AsyncIterator[Line]:
    async with Scene(tmp_path_factory.mktemp("line")) as scene:
        if request.param == "by address":
            caller, callee = await scene.baresip(), await scene.baresip()
            yield Line(bridge, application, (caller, callee), callee.uri)
            return
        here = f"127.0.0.1:{bridge.tls_port if request.param == 'tls' else bridge.sip_port}"
        phones = [
            await scene.baresip(
                f"<sip:{name}@{here};transport={request.param}>;auth_pass={password};regint=60",
                more=f"sip_cafile {authority.path}\n",
            )
            for name, password in PASSWORDS.items()
        ]
        for phone in phones:
            await phone.registered()
        line = Line(bridge, application, (phones[0], phones[1]), f"sip:bob@{here}")
        line.number = f"sip:100@{here};transport={request.param}"
        bound = (await bridge.read("/v1/registrations"))["data"]
        ways = [binding["source"]["transport"] for each in bound for binding in each["bindings"]]
        assert ways == [request.param] * len(phones)
        yield line
        for phone in phones:
            await phone.command("quit")

        async def nobody_is_bound() -> bool:
            return (await bridge.read("/v1/registrations"))["data"] == []

        await until_awaited(nobody_is_bound, "both have left: the next ones shall not ring at their addresses too")


async def test_they_talk_and_press_keys_and_the_caller_hangs_up(line: Line) -> None:
    inbound, outbound = await line.up()
    await line.talk()
    for phone, hears, name in ((line.caller, line.callee, inbound), (line.callee, line.caller, outbound)):
        await phone.command("sndcode", "5")
        assert (await hears.event("CALL_DTMF_START"))["param"] == "5"  # it passes through
        pressed = (await line.application.event("call.dtmf", call=name))["data"]  # and is told
        assert (pressed["digit"], pressed["method"]) == ("5", "rfc4733")
    await line.caller.command("hangup")
    await line.callee.event("CALL_CLOSED")
    first, second = [event["data"]["call"]["ended"] for event in await line.ended()]
    assert (first["by"], first["reason"]) == ("remote", "hangup")
    assert (second["by"], second["reason"]) == ("policy", "peer_ended")


async def test_either_holds_and_resumes_and_the_callee_hangs_up(line: Line) -> None:
    inbound, outbound = await line.up()
    for phone, name in ((line.caller, inbound), (line.callee, outbound)):
        await phone.command("hold")
        await line.application.event("call.held", call=name)
        await phone.command("resume")
        await line.application.event("call.resumed", call=name)
    await line.talk()
    await line.callee.command("hangup")
    await line.caller.event("CALL_CLOSED")
    first, second = [event["data"]["call"]["ended"] for event in await line.ended()]
    assert (first["by"], first["reason"]) == ("policy", "peer_ended")
    assert (second["by"], second["reason"]) == ("remote", "hangup")


async def test_the_callee_does_not_want_to(line: Line) -> None:
    await line.caller.command("dial", line.number)
    await line.callee.event("CALL_INCOMING")
    await line.callee.command("hangup")
    closed = await line.caller.event("CALL_CLOSED")
    await line.over()
    _, outbound = line.streams.values()
    assert str(outbound.call["ended"]["sip_code"]) in closed["param"]
    assert outbound.types[-2:] == ["call.attempt_failed", "call.ended"]
