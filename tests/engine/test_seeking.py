"""Where our INVITEs go, and what they say."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Target
from bridge.engine.effects import Resolve
from bridge.engine.inputs import Resolved
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow
from bridge.sip.locating import Hop
from tests.engine.callee import Callee
from tests.engine.test_dialing import party_of, told
from tests.engine.test_originating import ended, originate
from tests.engine.world import IDENTITY, OFFER, World, request, settings

BY_ALL = {
    **settings().listeners,
    "tcp:5060": Listener("tcp:5060", "192.0.2.10:5060", IDENTITY, "tcp"),
    "tls:5061": Listener("tls:5061", "192.0.2.10:5061", IDENTITY, "tls"),
    "udp6:5060": Listener("udp6:5060", "[2001:db8::10]:5060", IDENTITY, "udp", 6),
}


@pytest.mark.parametrize(
    ("uri", "way"),
    [
        ("sip:bob@192.0.2.2", Flow("udp", "udp:5060", "192.0.2.2", 5060)),
        ("sip:bob@192.0.2.2:5070", Flow("udp", "udp:5060", "192.0.2.2", 5070)),
        ("sip:bob@192.0.2.2;transport=TCP", Flow("tcp", "tcp:5060", "192.0.2.2", 5060)),
        ("sip:bob@192.0.2.2;transport=tls", Flow("tls", "tls:5061", "192.0.2.2", 5061, name="192.0.2.2")),
        (
            "sips:bob@192.0.2.2",
            Flow("tls", "tls:5061", "192.0.2.2", 5061, name="192.0.2.2"),
        ),  # §26.2.2: never in the clear
        ("sips:bob@192.0.2.2;transport=tcp", Flow("tls", "tls:5061", "192.0.2.2", 5061, name="192.0.2.2")),
        ("sips:bob@192.0.2.2:5070;transport=udp", Flow("tls", "tls:5061", "192.0.2.2", 5070, name="192.0.2.2")),
        ("sip:bob@[2001:db8::2]", Flow("udp", "udp6:5060", "2001:db8::2", 5060)),
    ],
)
def test_where_a_target_is(uri: str, way: Flow) -> None:
    world = World(settings(listeners=BY_ALL))
    originate(world, Target(uri))
    assert world.call.search is not None
    (attempt,) = world.call.search.attempts
    assert attempt.place is not None
    assert attempt.place.flow == way


@pytest.mark.parametrize(
    ("uri", "code"),
    [("sip:bob@[2001:db8::2]", 503), ("sips:bob@192.0.2.2", 503), ("sip:b@192.0.2.2;transport=sctp", 503)],
)
def test_whom_no_listener_reaches(uri: str, code: int) -> None:
    world = World()
    originate(world, Target(uri))
    assert ended(world) == {"by": "network", "reason": "unreachable", "sip_code": code}
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_name_is_looked_up_for_the_listeners_there_are() -> None:
    world = World(settings(listeners=BY_ALL))
    originate(world, Target("sip:bob@phones.example"))
    (asked,) = [effect for effect in world.effects if isinstance(effect, Resolve)]
    assert asked.spoken == {("udp", 4), ("tcp", 4), ("tls", 4), ("udp", 6)}


def test_a_name_found_too_late() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target("sip:bob@phones.example"),)),)
    world.invite()
    (asked,) = [effect for effect in world.effects if isinstance(effect, Resolve)]
    world.cancel()
    world.give(Resolved(asked.reader, (Hop("udp", bob.host, 5060),)))
    assert bob.got == []
    world.advance(64.0)
    assert world.leftovers() == {}


@pytest.mark.parametrize(("theirs", "ours"), [(70, "69"), (1, "0"), (0, None)])
def test_a_call_that_goes_in_a_circle_comes_to_an_end(theirs: int, ours: str | None) -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.packet(request("INVITE", sdp=OFFER).replace("Max-Forwards: 70", f"Max-Forwards: {theirs}"))
    assert [each.headers.get("Max-Forwards") for each in bob.requests("INVITE")] == ([] if ours is None else [ours])
    if ours is None:
        assert world.statuses[-1] == 483
        assert told(world, party_of(world)) == ["call.initiated", "call.attempt_failed", "call.ended"]
