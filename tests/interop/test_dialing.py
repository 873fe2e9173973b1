"""`dial` on real sockets: callers and callees hear each other, packet for packet, and whoever hangs up ends both calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.application import Application
from tests.support.callee import Callee, answers, rings, says
from tests.support.caller import Caller
from tests.support.pairs import Pair, heard, party, put_through
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.load, pytest.mark.asyncio(loop_scope="module")]

PAIRS = 50  # of a caller and a callee
PACKETS = 500  # each says to the other, one every 20 ms: 50,000 in all
INBOUND = ["call.incoming", "call.answered", "call.joined"]
OUTBOUND = ["call.initiated", "call.answered", "call.joined"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("dialing")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callee(scene: Scene) -> Callee:
    return await scene.callee()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene, callee: Callee) -> Application:
    return await scene.application(put_through(callee))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application) -> Served:
    return await scene.bridge(application, store="memory://", media_pairs=400)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(scene: Scene, bridge: Served) -> Caller:
    return await scene.caller(bridge)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pairs(caller: Caller, callee: Callee, application: Application) -> list[Pair]:
    made = await asyncio.gather(*(Pair.up(caller, callee, f"2{number:02}") for number in range(PAIRS)))
    await asyncio.gather(*(pair.joined(application) for pair in made))
    return list(made)


class TestFiftyAtOnce:
    async def test_not_one_packet_is_lost(self, pairs: list[Pair], caller: Caller, callee: Callee) -> None:
        ours, theirs = [pair.out.media_port for pair in pairs], [pair.into.media_port for pair in pairs]
        assert len({*ours, *theirs}) == 2 * PAIRS
        await asyncio.gather(caller.rtp.talk(ours, PACKETS), callee.rtp.talk(theirs, PACKETS))
        whole = list(range(1, PACKETS + 1))

        def lost() -> int:
            came = [heard(caller, pair.out) for pair in pairs] + [heard(callee, pair.into) for pair in pairs]
            return sum(PACKETS - len(each) for each in came)

        await until(lambda: lost() == 0, lambda: f"all arrive: {lost()} of {2 * PAIRS * PACKETS} packets have not")
        for pair in pairs:
            assert heard(caller, pair.out) == heard(callee, pair.into) == whole, "none twice, and all in order"

    async def test_whoever_hangs_up_both_end(self, pairs: list[Pair], application: Application) -> None:
        callers, callees = pairs[::2], pairs[1::2]
        answers = await asyncio.gather(*(pair.out.bye() for pair in callers), *(pair.into.bye() for pair in callees))
        assert {answer.status for answer in answers} == {200}
        await asyncio.gather(*(pair.into.hung_up() for pair in callers), *(pair.out.hung_up() for pair in callees))
        for pair in pairs:
            ends = [event["data"]["call"]["ended"] for event in await pair.ended(application)]
            first, second = ends if pair in callers else reversed(ends)
            assert (first["by"], first["reason"]) == ("remote", "hangup")
            assert (second["by"], second["reason"]) == ("policy", "peer_ended")
            inbound, outbound = await pair.streams(application)
            assert inbound.types == [*INBOUND, "call.ended"]
            assert outbound.types == [*OUTBOUND, "call.ended"]

    async def test_the_figures_are_right(self, pairs: list[Pair], application: Application) -> None:
        for pair in pairs:
            for event in await pair.ended(application):
                quality = event["data"]["quality"]
                assert quality["packets_received"] == PACKETS
                assert quality["packets_lost"] == quality["strangers"] == quality["invalid"] == 0


async def test_ringing_passes_through(caller: Caller, callee: Callee, application: Application) -> None:
    callee.behaviour = rings
    call = caller.call("300")
    invite = call.begin()
    into = await party(callee, "300")
    await until(lambda: 180 in [each.status for each in call.responses], "the caller hears it ring")
    into.accept()
    assert (await call.answer(invite)).status == 200
    pair = Pair(call, into)
    await pair.joined(application)
    assert (await call.bye()).status == 200
    await into.hung_up()
    await pair.ended(application)


async def test_the_caller_gives_up(caller: Caller, callee: Callee, application: Application) -> None:
    callee.behaviour = rings
    call = caller.call("301")
    invite = call.begin()
    into = await party(callee, "301")
    await until(lambda: 180 in [each.status for each in call.responses], "the caller hears it ring")
    assert (await call.cancel()).status == 200
    assert (await call.answer(invite)).status == 487
    await until(lambda: into.is_canceled and into.is_refused, "the callee is let go")
    ends = [event["data"]["call"]["ended"] for event in await Pair(call, into).ended(application)]
    assert [(end["by"], end["reason"]) for end in ends] == [("remote", "canceled"), ("local", "canceled")]


async def test_a_refusal_passes_through(caller: Caller, callee: Callee, application: Application) -> None:
    callee.behaviour = says(486)
    call = caller.call("302")
    assert (await call.invite()).status == 486
    ends = [event["data"]["call"]["ended"] for event in await Pair(call, await party(callee, "302")).ended(application)]
    assert [(end["by"], end["reason"]) for end in ends] == [("local", "busy"), ("remote", "busy")]


async def test_who_is_held_by_rest_hears_nobody(
    caller: Caller, callee: Callee, application: Application, bridge: Served
) -> None:
    callee.behaviour = answers
    pair = await Pair.up(caller, callee, "303")
    await pair.joined(application)
    name = (await pair.streams(application))[1].call["id"]
    for number, (action, direction) in enumerate((("hold", "sendonly"), ("unhold", "sendrecv")), 1):
        async with bridge.rest("POST", f"/v1/calls/{name}/{action}", json={}) as answer:
            assert answer.status == 202
        await application.event("action.completed", call=name, number=number)
        assert [each.direction() for each in pair.into.asked("INVITE")][number - 1 :] == [direction]
        caller.rtp.speak(pair.out.media_port, 5)
    assert pair.out.asked("INVITE") == [], "the other side is not troubled with it"
    await until(lambda: heard(callee, pair.into), "it hears again")
    await until(lambda: heard(callee, pair.into)[-1] == 10, "it hears the last packet")
    assert heard(callee, pair.into) == [6, 7, 8, 9, 10], "and nothing of what was said meanwhile"
    assert (await pair.into.bye()).status == 200
    await pair.out.hung_up()
    await pair.ended(application)


async def test_a_list_holds_and_resumes_one_after_the_other(
    caller: Caller, callee: Callee, application: Application, bridge: Served
) -> None:
    callee.behaviour = answers
    pair = await Pair.up(caller, callee, "304")
    await pair.joined(application)
    name = (await pair.streams(application))[1].call["id"]
    listed = {"actions": [{"action": "hold"}, {"action": "unhold"}, {"action": "hold"}, {"action": "hangup"}]}
    async with bridge.rest("POST", f"/v1/calls/{name}/actions", json=listed) as answer:
        assert answer.status == 202
        ids = (await answer.json())["action_ids"]
    await pair.into.hung_up()
    assert [each.direction() for each in pair.into.asked("INVITE")] == ["sendonly", "sendrecv", "sendonly"]
    await pair.out.hung_up()
    await pair.ended(application)
    told = [
        each for each in application.events() if each["data"]["call_id"] == name and each["data"]["caused_by"] in ids
    ]
    assert [each["type"] for each in told] == ["action.completed"] * 3 + ["call.ended"]
    assert [each["data"]["caused_by"] for each in told] == ids


async def test_each_speaks_another_codec_and_one_changes(
    callee: Callee, application: Application, bridge: Served
) -> None:
    """Two calls that each chose a codec of their own are joined by REST: whose join it is, is asked to change."""
    names, calls = [], []
    for codec in ("0", "8"):
        callee.behaviour = lambda call, codec=codec: call.say(200, body=call.offer("sendrecv", codecs=codec))  # type: ignore[misc]
        async with bridge.rest("POST", "/v1/calls", json={"to": callee.uri_of(f"40{codec}")}) as answer:
            names.append((await answer.json())["id"])
        call = await party(callee, f"40{codec}")
        await call.up()
        await application.event("call.answered", call=names[-1])
        calls.append(call)
    async with bridge.rest("POST", f"/v1/calls/{names[0]}/join", json={"call_id": names[1]}) as answer:
        assert answer.status == 202, await answer.text()
    for name in names:
        await application.event("call.joined", call=name)
    (changed,) = calls[0].asked("INVITE")
    assert changed.formats() == ["8"]
    assert calls[1].asked("INVITE") == []
    for ours, theirs in (calls, calls[::-1]):
        callee.rtp.speak(ours.media_port, 5, payload_type=8)
        await until(lambda: len(heard(callee, theirs)) == 5, "one hears the other")  # noqa: B023 -- awaited here
    async with bridge.rest("DELETE", f"/v1/calls/{names[0]}") as answer:
        assert answer.status == 202
    await calls[0].hung_up()
    await application.event("call.left", call=names[1])
    assert (await calls[1].bye()).status == 200  # a join ends with nobody, unless it is told to
    for name in names:
        await application.event("call.ended", call=name)


async def test_every_promise_was_kept(application: Application, bridge: Served) -> None:
    await application.all_ended(2 * PAIRS)
    application.judge()
    assert bridge.complaints() == []
