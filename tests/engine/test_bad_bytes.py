"""Whatever comes by the wire, a node neither raises nor leaks, and no other call notices (contract §6)."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.calls.actions import Action, Ring
from tests.engine.world import ANSWER, OFFER, World, request, sdp

BOUNDED = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LONG = st.sampled_from(
    [
        " ",
        "\t",
        '"',
        "<",
        ">",
        ";",
        ",",
        "%",
        "\\",
        "@",
        ":",
        "=",
        "(",
        "é",
        "\x00",
        "\x7f",
        "\r",
        "\n",
        "\r\n",
        "\r\n ",
    ]
)
PIECES = st.one_of(
    LONG, st.text(max_size=8), st.sampled_from(["0", "-1", "99999999999999999999", "sip:", "SIP/2.0", ";tag=", "[::1]"])
)
METHODS = st.sampled_from(["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER"])


@st.composite
def messages(draw: st.DrawFn, tag: str) -> bytes:
    """A message of the caller's, bent."""
    to_tag = draw(st.sampled_from([None, tag, "x"]))
    text = request(
        draw(METHODS),
        draw(st.sampled_from(["c1", "c2"])),
        sequence=draw(st.integers(1, 4)),
        sdp=draw(st.sampled_from([None, OFFER, sdp(direction="inactive")])),
        to_tag=to_tag,
        extra=draw(
            st.sampled_from(["", "Record-Route: <sip:9.9.9.9;lr>\r\n", "Require: x\r\n", "Reason: Q.850;cause=16\r\n"])
        ),
    )
    if draw(st.booleans()):
        text = text.replace(f"{text.split(' ', 1)[0]} sip:100@192.0.2.10 SIP/2.0", "SIP/2.0 200 OK", 1)
    data = text.encode()
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 12))
        data = data[:at] + draw(PIECES).encode("utf-8", "surrogatepass") + data[at + gone :]
    return data


@st.composite
def descriptions(draw: st.DrawFn) -> str:
    """A session description, bent, in a message that says its true length."""
    text = draw(st.sampled_from([OFFER, sdp(direction="sendonly"), sdp(address="0.0.0.0")]))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at + draw(st.integers(0, 12)) :]
    return text.encode("utf-8", "replace").decode("ascii", "replace").replace("\ufffd", "?")


def unharmed(world: World) -> None:
    """The other call is as it was, and in the end nothing is left of anything."""
    world.bye("other", sequence=9)
    assert len([message for message in world.responses(200, "BYE") if message.call_id == "other@192.0.2.1"]) == 1
    world.opening = world.accepting = True
    world.advance(15_000.0)  # longer than the longest call may last
    assert world.leftovers() == {}


def with_another_call(*reply: Action) -> World:
    """An answered call that is to be left in peace; the application replies so to the others."""
    world = World()
    world.strict = False
    world.reply = (ANSWER,)
    world.invite("other")
    world.ack("other")
    world.reply = reply
    return world


@BOUNDED
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_random_bytes(packets: list[bytes]) -> None:
    world = with_another_call()
    for data in packets:
        world.packet(data)
    unharmed(world)


@BOUNDED
@given(st.data(), st.sampled_from([(ANSWER,), (), (Ring(),)]))
def test_bent_messages_at_any_time(data: st.DataObject, reply: tuple[Action, ...]) -> None:
    world = with_another_call(*reply)
    world.invite("c1")
    tag = world.tag("c1")
    for message in data.draw(st.lists(messages(tag), max_size=6)):
        world.packet(message)
        world.advance(0.3)
    unharmed(world)


@BOUNDED
@given(descriptions(), descriptions(), descriptions())
def test_bent_session_descriptions(offered: str, acknowledged: str, offered_again: str) -> None:
    world = with_another_call(ANSWER)
    world.invite("c1", sdp=offered)
    world.invite("c2", sdp=None)
    for name in ("c1", "c2"):
        if any(message.call_id.startswith(name) for message in world.responses(200)):
            world.ack(name, sdp=acknowledged)
            world.within("INVITE", name, sequence=2, sdp=offered_again)
            world.ack(name, sequence=2, sdp=acknowledged)
    unharmed(world)


def test_a_message_that_is_all_surrogates_survives_a_restart() -> None:
    world = World()
    world.reply = (ANSWER,)
    text = request("INVITE", sdp=OFFER, extra="Subject: \xff\xfe\r\n").encode("latin-1")
    world.packet(text)
    world.ack()
    heir = world.restart()
    heir.bye()
    assert heir.told("call.incoming")["request"]["headers"] == {"Subject": ["\ufffd\ufffd"]}
    assert heir.types[-1] == "call.ended"
