"""Calls as releases have written them to the store, kept for good: what this code must be able to read (survival §2).

`python -m tests.engine.recorded` records the present format into `snapshots-<version>-<number>.json`, a new file each time;
run it when a field is added or the version rises, and keep what is there: those files are what running clusters hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.calls import snapshot
from bridge.calls.actions import Answer, Dial, Hangup, Hold, Pause, Ring, Target
from bridge.calls.facts import CallId, ConversationId
from bridge.contract.render import call_json
from bridge.engine.commit import Ack, CallWrite, Commit, EventWrite, Postponed, StoredCall, StoredConversation
from tests.engine.callee import Callee
from tests.engine.test_dialing import dialing
from tests.engine.test_joining import joined, reply
from tests.engine.test_originating import calling
from tests.engine.world import ANSWER, RETENTION_S, World, answered, sdp

HERE = Path(__file__).parent


def _undecided() -> World:
    world = World()
    world.invite()
    return world


def _listed() -> World:
    world = World()
    world.reply = (Ring(), Pause(seconds=5.0), Answer(headers={"X-Answered": ("yes",)}), Pause(seconds=9.0), Hangup())
    world.invite()
    return world


def _dialing() -> World:
    world, (bob, _) = dialing(2, 3, fork="serial", timeout_s=20.0)
    bob.answer(180)
    return world


def _accepted() -> World:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    return world


def _talking() -> World:
    return answered()


def _joined() -> World:
    return joined()[0]


def _held() -> World:
    world = answered()
    world.ask(Hold())
    world.packet(reply(world.requests("INVITE")[-1], 200, sdp(4000, direction="recvonly", formats="0 101")))
    return world


def _holding() -> World:
    world = answered()
    world.ask(Hold())
    return world


def _undelivered() -> World:
    world = World()
    world.reply = (ANSWER,)
    world.invite()
    world.down = True
    world.ack()
    return world


def _over() -> World:
    world = _undelivered()
    world.bye()
    return world


def _originated() -> World:
    world, bob = calling(
        client_state="mine",
        tags=("a", "b"),
        max_duration_s=600.0,
        actions=(Dial(to=(Target("sip:carol@192.0.2.3"),)), Hangup()),
    )
    bob.answer(180)
    return world


SCENES: Mapping[str, Callable[[], World]] = {
    "undecided": _undecided,
    "listed": _listed,
    "dialing": _dialing,
    "accepted": _accepted,
    "talking": _talking,
    "joined": _joined,
    "held": _held,
    "holding": _holding,
    "undelivered": _undelivered,
    "over": _over,
    "originated": _originated,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One scene, as it was when it was recorded."""

    at: float  # seconds UTC
    conversations: tuple[StoredConversation, ...]
    ports: tuple[str, ...]  # media sessions that the workers held
    shown: Mapping[CallId, Mapping[str, Any]]  # each Call as it was shown

    def revived(self) -> tuple[World, Callee, Callee]:
        """The process that has been started anew, the store as it was; and whoever was being called."""
        former = World()
        former.clock.at = self.at
        former.ports = dict.fromkeys(self.ports)
        for each in self.conversations:
            assert former.keyspace.commit(_rewritten(each), RETENTION_S) == "applied"
            former.written |= {(call.call, sequence) for call in each.calls for sequence, _ in call.events}
            former.accepted |= {call.call for call in each.calls if b'"phase":"accepted"' in call.variable}
            for call in each.calls:
                for postponed in call.postponed:
                    former.keyspace.postpone(postponed)
        former.commits = [_rewritten(each) for each in self.conversations]
        bob, carol = Callee(former, 2), Callee(former, 3)
        heir = former.restart()
        bob.world = carol.world = heir
        return heir, bob, carol

    @property
    def first(self) -> CallId:
        """The call that the scene begins with."""
        return next(iter(self.shown))

    def tag(self) -> str:
        """Ours in the dialog with the caller."""
        stored = next(call for each in self.conversations for call in each.calls if call.call == self.first)
        tag: str = json.loads(stored.fixed)["tag"]
        return tag


def _rewritten(stored: StoredConversation) -> Commit:
    """What brings a store to where it was."""
    return Commit(
        ticket=0,
        conversation=stored.conversation,
        epoch=stored.epoch,
        nonce=stored.nonce,
        version=stored.version,
        owner="n1:1",
        head=stored.head,
        calls=tuple(CallWrite(call.call, 0, call.fixed, call.variable) for call in stored.calls),
        events=tuple(EventWrite(call.call, *event) for call in stored.calls for event in call.events),
        acks=tuple(Ack(call.call, *cursor) for call in stored.calls for cursor in call.cursors),
        whole=True,
    )


def recordings() -> dict[str, Recorded]:
    """Every scene of every file, by file and name."""
    found = {}
    for file in sorted(HERE.glob("snapshots-*.json")):
        for name, scene in json.loads(file.read_text("utf-8"))["scenes"].items():
            found[f"{file.stem}: {name}"] = _read(scene)
    return found


def _read(scene: Mapping[str, Any]) -> Recorded:
    conversations = tuple(
        StoredConversation(
            ConversationId(each["conversation"]),
            each["epoch"],
            each["nonce"],
            each["version"],
            each["head"].encode(),
            tuple(_read_call(call) for call in each["calls"]),
        )
        for each in scene["conversations"]
    )
    return Recorded(scene["at"], conversations, tuple(scene["ports"]), scene["shown"])


def _read_call(call: Mapping[str, Any]) -> StoredCall:
    return StoredCall(
        CallId(call["call"]),
        call["fixed"].encode(),
        call["variable"].encode(),
        tuple((sequence, body.encode()) for sequence, body in call["events"]),
        tuple((endpoint, sequence) for endpoint, sequence in call["cursors"]),
        tuple(Postponed(*each) for each in call["postponed"]),
    )


def record(make: Callable[[], World]) -> dict[str, Any]:
    """One scene as JSON's types."""
    world = make()
    # Deliveries settled a moment ago have found no write to ride with yet.
    world.advance(0.1)
    stored = world.keyspace.claim_predecessors("n1:recorder", world.settings.nonce)
    calls = sorted(world.node.calls(), key=lambda call: call.id != world.call_id)
    return {
        "at": world.now,
        "conversations": [
            {
                "conversation": each.conversation,
                "epoch": each.epoch - 1,  # before it was claimed to be recorded
                "nonce": each.nonce,
                "version": each.version,
                "head": each.head.decode(),
                "calls": [_call(call) for call in each.calls],
            }
            for each in stored
        ],
        "ports": sorted(world.ports),
        "shown": {call.id: json.loads(call_json(call)) for call in calls},
    }


def _call(call: StoredCall) -> dict[str, Any]:
    return {
        "call": call.call,
        "fixed": call.fixed.decode(),
        "variable": call.variable.decode(),
        "events": [[sequence, body.decode()] for sequence, body in call.events],
        "cursors": call.cursors,
        "postponed": [[each.call, each.endpoint, each.sequence, each.attempts, each.due_ms] for each in call.postponed],
    }


def main() -> None:
    number = len(list(HERE.glob(f"snapshots-{snapshot.VERSION}-*.json"))) + 1
    file = HERE / f"snapshots-{snapshot.VERSION}-{number}.json"
    scenes = {name: record(make) for name, make in SCENES.items()}
    content = {"release": __version__, "snapshot": snapshot.VERSION, "scenes": scenes}
    file.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", "utf-8")
    print(f"{file}: {len(scenes)} scenes")
