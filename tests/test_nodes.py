"""Who is there, and who shall go: real nodes over the memory store, and a wire between them that can be cut."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from bridge import draining
from bridge.api import DrainRefused, Resource
from bridge.contract.nodes import Node
from bridge.contract.render import render
from tests.support.linked import Linked, Wire
from tests.support.waiting import until


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    monkeypatch.setattr(draining, "AGAIN_S", 0.01)
    monkeypatch.setattr(draining, "ALONE_S", 0.1)
    wire = Wire()
    yield wire
    await wire.close()


async def nodes(wire: Wire, count: int = 3) -> list[Linked]:
    made = [await wire.add(f"n{number}:x") for number in range(1, count + 1)]
    await wire.announce()
    return made


async def drain(node: Linked, which: str) -> Resource:
    said = await node.nodes.drain(which)
    assert not isinstance(said, DrainRefused), said
    return said


def shown(node: Linked) -> dict[str, Node]:
    read = [Node.model_validate_json(render(each)) for each in node.nodes.nodes()]
    return {each.id: each for each in read}


class TestList:
    async def test_everybody_is_shown_as_they_have_announced_themselves(self, wire: Wire) -> None:
        _, second, _ = await nodes(wire)
        wire.nodes["n1:x"].membership.facts |= {
            "since": wire.clock.time,
            "load": {"calls": 2, "conversations": 1, "capacity": 9},
        }
        await wire.announce()
        found = shown(second)
        assert [(each.id, each.answering, each.alive) for each in found.values()] == [
            ("n1", False, True),
            ("n2", True, True),
            ("n3", False, True),
        ]
        first = found["n1"]
        assert (first.incarnation, first.cluster_address, first.snapshot_versions) == ("x", "n1:7070", [1])
        assert first.load is not None
        assert (first.load.calls, first.load.conversations, first.load.capacity) == (2, 1, 9)
        assert first.started_at == first.renewed_at == "1970-01-12T13:46:40.000Z"

    async def test_who_has_died_is_shown_so_and_who_has_departed_is_not(self, wire: Wire) -> None:
        first, second, third = await nodes(wire)
        await third.membership.leave()
        third.pump.close()
        del wire.nodes["n3:x"]
        await wire.kill(first)
        assert {name: each.alive for name, each in shown(second).items()} == {"n1": False, "n2": True}

    async def test_in_quiet_time_nobody_is_dead(self, wire: Wire) -> None:
        _, second, _ = await nodes(wire)
        wire.clock.time += 10.0  # nobody has spoken: it was the store
        await second.membership.announce()
        assert {each.alive for each in shown(second).values()} == {True}

    async def test_it_is_known_while_the_store_is_away(self, wire: Wire) -> None:
        first, *_ = await nodes(wire)
        first.store.go_away()
        assert shown(first).keys() == {"n1", "n2", "n3"}


class TestDrain:
    async def test_one_that_has_begun_since_we_last_heard_of_everybody_is_found(self, wire: Wire) -> None:
        first, *_ = await nodes(wire)
        await wire.add("n4:x")
        assert "n4" not in shown(first)
        assert (await drain(first, "n4"))["draining"] is True

    async def test_any_node_passes_it_on_to_the_one_that_is_named(self, wire: Wire) -> None:
        first, second, third = await nodes(wire)
        calls = {(await first.talking(name))[0] for name in ("one", "two", "three")}
        said = Node.model_validate_json(render(await drain(second, "n1")))
        assert (said.id, said.draining, said.answering) == ("n1", True, False)
        assert (first.unready, second.unready) == (True, False)
        await until(lambda: first.pump.node.held == 0, "it is empty")
        assert {each.id for node in (second, third) for each in node.pump.node.calls()} == calls
        assert [each for each in first.sent if each.method == "BYE"] == []

    async def test_asked_again_it_says_the_same(self, wire: Wire) -> None:
        first, second, _ = await nodes(wire)
        for asked in (first, second, second):
            assert (await drain(asked, "n1"))["draining"]
        assert len([each for each in wire.asked if json.loads(each[1]).get("drain")]) == 2

    async def test_it_is_known_to_the_others_at_once(self, wire: Wire) -> None:
        first, second, _ = await nodes(wire)
        await drain(first, "n1")
        await second.membership.announce()
        assert shown(second)["n1"].draining
        assert {each.owner for each in second.switchboard.ready()} == {"n3:x"}

    async def test_nobody_there_ends_no_call_and_whoever_comes_gets_them(self, wire: Wire) -> None:
        (first,) = await nodes(wire, 1)
        call, tag = await first.talking("one")
        await drain(first, "n1")
        first.say("INFO", "one", number=2, to_tag=tag)
        await until(lambda: first.said("one", 200, "INFO"), "it goes on here")
        assert first.pump.node.live == 1
        second = await wire.add("n2:x")
        await wire.announce()
        await until(lambda: second.pump.node.call(call), "it has moved")
        assert [each for each in first.sent if each.method == "BYE"] == []

    async def test_what_comes_later_is_passed_on(self, wire: Wire) -> None:
        first, second = await nodes(wire, 2)
        await drain(first, "n1")
        first.say("INVITE", "new")
        await until(lambda: first.said("new", 200), "it is answered, by the socket that it came to")
        assert (first.pump.node.live, second.pump.node.live) == (0, 1)

    async def test_a_stop_after_it_has_nothing_left_to_do(self, wire: Wire) -> None:
        first, second = await nodes(wire, 2)
        call, _ = await first.talking("one")
        await drain(second, "n1")
        await until(lambda: second.pump.node.call(call), "it has moved")
        assert await first.draining.run(20.0) == 1

    async def test_a_stop_of_a_node_that_drains_alone_leaves_its_calls_to_whoever_stops_it(self, wire: Wire) -> None:
        (first,) = await nodes(wire, 1)
        await first.talking("one")
        await drain(first, "n1")
        assert await first.draining.run(20.0) == 0
        assert first.pump.node.live == 1

    async def test_without_a_store_it_begins_all_the_same(self, wire: Wire) -> None:
        first, second = await nodes(wire, 2)
        call, _ = await first.talking("one")
        first.store.go_away()
        assert (await drain(second, "n1"))["draining"]
        assert first.pump.node.live == 1
        first.store.come_back()
        await until(lambda: second.pump.node.call(call), "it has moved")


class TestRefused:
    async def test_a_node_that_nobody_knows(self, wire: Wire) -> None:
        first, _, third = await nodes(wire)
        await third.membership.leave()
        await first.membership.announce()
        for name in ("n9", "n3"):
            said = await first.nodes.drain(name)
            assert isinstance(said, DrainRefused)
            assert said.code == "not_found"

    async def test_a_node_that_is_dead_or_cannot_be_reached(self, wire: Wire) -> None:
        first, second, third = await nodes(wire)
        wire.cut.add("n2:x")
        del third.membership.facts["cluster"]
        await wire.kill(first)
        for name, why in (("n1", "lease"), ("n2", "does not answer"), ("n3", "no link")):
            asked = third if name == "n2" else second
            said = await asked.nodes.drain(name)
            assert isinstance(said, DrainRefused)
            assert said.code == "node_unreachable"
            assert why in said.detail
        assert not second.unready

    async def test_a_release_that_does_not_know_the_question(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second, _ = await nodes(wire)

        async def older(_: bytes) -> bytes:
            return b'{"v":1,"refused":["wrong_state","the node that has it is of another release"]}'

        monkeypatch.setattr(second.switchboard, "answer", older)
        said = await first.nodes.drain("n2")
        assert isinstance(said, DrainRefused)
        assert said.code == "wrong_state"
        assert "SIGTERM" in said.detail
