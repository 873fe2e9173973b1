"""What was written by the releases there have been is carried on by this one, in every state that a call can be in.

A failure here means that a rolling update to this code would lose calls: mend the reading, never the recording.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bridge.calls import snapshot
from bridge.calls.actions import Answer
from bridge.contract.render import call_json
from tests.engine.callee import Callee
from tests.engine.recorded import SCENES, Recorded, recordings
from tests.engine.test_dialing import told
from tests.engine.test_joining import reply
from tests.engine.world import World, request, sdp

RECORDINGS = recordings()


def shown(call: Mapping[str, Any]) -> dict[str, Any]:
    """Without what each revival counts, and what only the process knew that carried it."""
    media = None if call["media"] is None else {**call["media"], "quality": None}
    attempts = [{"trunk": None, **each} for each in call["attempts"]]  # which no recording names
    return {**call, "recovered": 0, "media": media, "attempts": attempts}


def bye(world: World, scene: Recorded) -> None:
    world.packet(request("BYE", sequence=9, to_tag=scene.tag()))


def ack(world: World, scene: Recorded) -> None:
    world.packet(request("ACK", to_tag=scene.tag()))


def undecided(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    assert world.types == []
    world.decide(Answer())
    assert world.statuses == [200]
    ack(world, scene)
    bye(world, scene)
    assert world.types == ["call.incoming", "call.answered", "call.ended"]


def listed(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    assert world.statuses == []
    world.advance(5.0)
    assert world.last(200).headers.get("X-Answered") == "yes"
    ack(world, scene)
    world.advance(9.0)
    world.packet(reply(world.requests("BYE")[-1], 200))
    assert world.types == ["call.answered", "call.ended"]
    assert world.ended["by"] == "local"


def dialing(world: World, scene: Recorded, bob: Callee, carol: Callee) -> None:
    assert bob.methods == ["INVITE"], "its INVITE goes out again to the byte"
    bob.answer(486)
    assert carol.methods == ["INVITE"]
    carol.answer(200)
    ack(world, scene)
    assert sorted(each for each in world.types if each == "call.joined") == ["call.joined"] * 2
    carol.bye()
    assert told(world).count("call.ended") == 2
    world.packet(reply(world.requests("BYE")[-1], 200))


def accepted(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    assert world.statuses == [200], "whether it was sent nobody knows"
    ack(world, scene)
    bye(world, scene)
    assert world.types == ["call.answered", "call.ended"]


def talking(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    bye(world, scene)
    assert world.last(200, "BYE").status == 200
    assert world.types == ["call.ended"]


def joined(world: World, scene: Recorded, bob: Callee, _carol: Callee) -> None:
    rules = [rule for rule in world.ports.values() if rule is not None]
    assert {rule.relay_to for rule in rules} == set(world.ports), "they hear each other"
    bye(world, scene)
    assert bob.methods == ["BYE"]
    assert world.types == ["call.ended", "call.ended"]


def held(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    assert world.call.on_hold
    bye(world, scene)
    assert world.types == ["call.ended"]


def holding(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    world.advance(2.5)
    (again,) = world.requests("INVITE")
    assert b"a=sendonly" in again.body
    world.packet(reply(again, 200, sdp(4000, direction="recvonly", formats="0 101")))
    assert world.types == ["action.completed"]
    bye(world, scene)


def undelivered(world: World, scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    assert world.types == [], "it is not due yet"
    world.advance(10.0)
    assert world.types == ["call.answered"]
    bye(world, scene)
    assert world.types == ["call.answered", "call.ended"]


def over(world: World, _scene: Recorded, _bob: Callee, _carol: Callee) -> None:
    world.advance(10.0)
    assert world.types == ["call.answered", "call.ended"]


def originated(world: World, _scene: Recorded, bob: Callee, carol: Callee) -> None:
    assert bob.methods == ["INVITE"]
    bob.answer(200)
    assert carol.methods == ["INVITE"], "the list that it was asked for with"
    carol.answer(200)
    assert told(world).count("call.joined") == 2
    carol.bye()
    bob.bye()
    assert told(world).count("call.ended") == 2


GO_ON: Mapping[str, Callable[[World, Recorded, Callee, Callee], None]] = {
    each.__name__: each
    for each in (
        undecided,
        listed,
        dialing,
        accepted,
        talking,
        joined,
        held,
        holding,
        undelivered,
        over,
        originated,
    )
}


def test_there_is_a_recording_of_each_version_that_is_read() -> None:
    versions = {int(name.split("-")[1]) for name in RECORDINGS}
    assert versions == set(snapshot.READS)
    assert GO_ON.keys() == SCENES.keys()
    assert {name.partition(": ")[2] for name in RECORDINGS} == SCENES.keys()


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_call_is_shown_as_it_was(name: str) -> None:
    scene = RECORDINGS[name]
    world, _, _ = scene.revived()
    for call, known in scene.shown.items():
        carried = world.node.call(call)
        assert carried is not None, f"{call} has not been revived"
        now = shown(json.loads(call_json(carried)))
        assert {key: now[key] for key in known} == shown(known)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_call_goes_on_to_its_end(name: str) -> None:
    scene = RECORDINGS[name]
    world, bob, carol = scene.revived()
    GO_ON[name.partition(": ")[2]](world, scene, bob, carol)
    world.advance(100.0)
    assert world.leftovers() == {}
    for call in scene.shown:
        assert [body["type"] for _, body in world.stored_events(call)][-1] == "call.ended"
        sequences = [sequence for sequence, _ in world.stored_events(call)]
        assert sequences == list(range(1, len(sequences) + 1))
