"""What REST does with trunks, how other nodes hear of it, and the way of places between the engine and the store."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from bridge.calls.actions import Credentials
from bridge.calls.facts import CallId
from bridge.contract.trunks import TrunkBody
from bridge.engine.effects import LeavePlace, TakePlace
from bridge.engine.inputs import Input, PlaceTaken
from bridge.engine.trunks import Trunk, TrunksChanged
from bridge.pump import Pump
from bridge.store.keyspace import Keyspace
from bridge.store.memory import MemoryStore
from bridge.trunks import Trunks, read_trunk, write_trunk
from tests.engine.world import Sealing, Ticking
from tests.support.waiting import until

BODY = TrunkBody.model_validate_json(
    json.dumps(
        {
            "targets": [
                {"uri": "sip:gw1.example.net:5070"},
                {"uri": "sips:gw2.example.net", "priority": 1, "weight": 5},
            ],
            "from": "sip:acme@example.net",
            "auth": {"username": "acme", "password": "wonderland"},
            "headers": {"X-Account": "7"},
            "max_calls": 2,
            "calls_per_second": 9,
            "next_on": [480],
            "sources": ["203.0.113.0/29", "2001:db8::7"],
            "latching": "learn",
        }
    )
)
FILED = TrunkBody.model_validate_json('{"targets": [{"uri": "sip:192.0.2.2"}]}').to_trunk("filed", None)


class House:
    """One node's trunks over a store that others may share."""

    def __init__(self, keyspace: Keyspace | None = None, *, seal: Sealing | None = None) -> None:
        self.given: list[Input] = []
        clock = Ticking(1000.0)
        self.memory = MemoryStore(give=lambda _: None, clock=clock, keyspace=keyspace or Keyspace(clock))
        self.trunks = Trunks(pump=cast(Pump, self), store=self.memory, trunks={"filed": FILED}, seal=seal or Sealing())

    def give(self, given: Input) -> None:
        self.given.append(given)


async def test_one_is_made_shown_changed_and_taken_away() -> None:
    house = House()
    existed, shown = await house.trunks.put_trunk("carrier", BODY)
    assert not existed
    assert shown == {
        "name": "carrier",
        "targets": [
            {"uri": "sip:gw1.example.net:5070", "priority": 0, "weight": 1},
            {"uri": "sips:gw2.example.net", "priority": 1, "weight": 5},
        ],
        "domain": "gw1.example.net:5070",
        "from": "<sip:acme@example.net>",
        "username": "acme",
        "headers": {"X-Account": ["7"]},
        "max_calls": 2,
        "calls_per_second": 9,
        "next_on": [480],
        "sources": ["203.0.113.0/29", "2001:db8::7/128"],
        "latching": "learn",
        "source": "api",
    }
    (told,) = house.given
    assert isinstance(told, TrunksChanged)
    assert told.trunks == {"carrier": BODY.to_trunk("carrier", Credentials("acme", "wonderland"))}
    assert await house.trunks.trunk("carrier") == shown
    assert [each["name"] for each in await house.trunks.trunks()] == ["carrier", "filed"]
    assert await house.trunks.put_trunk("carrier", BODY) == (True, shown)
    assert await house.trunks.delete_trunk("carrier") == shown
    assert house.given[-1] == TrunksChanged({"carrier": None})
    assert await house.trunks.delete_trunk("carrier") is None
    assert await house.trunks.trunk("carrier") is None


async def test_its_password_is_nowhere_in_the_clear() -> None:
    house = House()
    await house.trunks.put_trunk("carrier", BODY)
    record = await house.memory.record("trunk", "carrier")
    assert record is not None
    assert b"wonderland" not in record
    assert "wonderland" not in repr(house.given)


async def test_those_of_the_configuration_are_shown_and_go_before_others() -> None:
    house = House()
    assert house.trunks.is_filed("filed")
    assert not house.trunks.is_filed("carrier")
    await house.memory.put_record("trunk", "filed", write_trunk(BODY, Sealing()))
    await house.trunks.load()
    assert house.given == []
    shown = await house.trunks.trunk("filed")
    assert shown is not None
    assert (shown["source"], shown["targets"][0]["uri"]) == ("file", "sip:192.0.2.2")


async def test_other_nodes_hear_of_it() -> None:
    here = House()
    there = House(here.memory.keyspace)
    await here.trunks.put_trunk("carrier", BODY)
    await there.trunks.load()
    await there.trunks.load()
    (told,) = there.given
    assert isinstance(told, TrunksChanged)
    heard = cast(Trunk, told.trunks["carrier"])
    assert heard.auth is not None
    assert (heard.auth.password, heard.servers) == ("wonderland", BODY.to_trunk("carrier", None).servers)
    await here.trunks.delete_trunk("carrier")
    await there.trunks.load()
    assert there.given[-1] == TrunksChanged({"carrier": None})


async def test_one_whose_password_was_sealed_with_another_key_has_none() -> None:
    here = House()
    there = House(here.memory.keyspace, seal=Sealing("other"))
    await here.trunks.put_trunk("carrier", BODY)
    await there.trunks.load()
    (told,) = there.given
    assert isinstance(told, TrunksChanged)
    heard = cast(Trunk, told.trunks["carrier"])
    assert heard.auth is not None
    assert heard.auth.password is None


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b'{"v": 2}', b'{"v": 1}', b'{"v": 1, "targets": [], "sealed": 7}', b"\xff"]
)
def test_a_record_that_cannot_be_read_is_no_trunk(record: bytes) -> None:
    assert read_trunk("carrier", record, Sealing()) is None


async def test_a_call_takes_a_place_and_leaves_it() -> None:
    house = House()
    first, second = CallId("call_a"), CallId("call_b")
    house.trunks.take_place(TakePlace(1, first, "carrier", 1, 0))
    await until(lambda: bool(house.given), "the first is told")
    house.trunks.take_place(TakePlace(2, second, "carrier", 1, 0))
    await until(lambda: len(house.given) == 2, "the second is told")
    house.trunks.leave_place(LeavePlace("carrier", first))
    await asyncio.sleep(0)
    house.trunks.take_place(TakePlace(3, second, "carrier", 1, 0))
    await until(lambda: len(house.given) == 3, "the third is told")
    assert house.given == [
        PlaceTaken(1, first, "carrier", True),
        PlaceTaken(2, second, "carrier", False),
        PlaceTaken(3, second, "carrier", True),
    ]
    await house.trunks.close()


async def test_a_store_that_is_away_is_told_of() -> None:
    house = House()
    await house.memory.open()
    house.memory.go_away()
    house.trunks.take_place(TakePlace(1, CallId("call_a"), "carrier", 1, 0))
    house.trunks.leave_place(LeavePlace("carrier", CallId("call_a")))
    await house.trunks.close()
    assert house.given == [PlaceTaken(1, CallId("call_a"), "carrier", None)]
