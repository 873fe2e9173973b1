"""The registry: users from REST to the node and back from the store, registrations read and removed, the duties."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.engine.inputs import Input
from bridge.engine.registrations import (
    Deregister,
    Deregistered,
    RegistrationsDue,
    User,
    UsersChanged,
    WriteRegistration,
    write_bindings,
)
from bridge.errors import StoreUnavailable
from bridge.registry import LOOK_S, Registry, read_user, write_user
from bridge.sip.digest import Ha1, make_ha1
from bridge.sip.flow import Flow
from bridge.sip.registrar import AddressOfRecord, Binding
from bridge.store.memory import MemoryStore
from tests.engine.world import Sealing
from tests.support.waiting import until

ALICE = AddressOfRecord("sip:alice@example.com")
FILED = User("filed", make_ha1("filed", "r", "x"))


class House:
    """A registry over a memory store, and whoever takes its inputs. The clock is a number."""

    def __init__(self, *, realm: str = "r", memory: MemoryStore | None = None, seal: Sealing | None = None) -> None:
        self.time = 1000.0
        self.given: list[Input] = []
        self.answers: Sequence[int | None] = (2,)
        self.memory = memory or MemoryStore(give=self.given.append, clock=self)
        self.registry = Registry(
            pump=self,  # type: ignore[arg-type]
            store=self.memory,
            clock=self,
            realm=realm,
            users={"filed": FILED},
            seal=seal,
        )

    def now(self) -> float:
        return self.time

    def give(self, given: Input) -> None:
        self.given.append(given)
        if isinstance(given, Deregister):
            for answer in self.answers:
                self.registry.deregistered(Deregistered(given.request, answer))

    def bind(self, aor: AddressOfRecord, *, expires_at: float = 2000.0, version: int = 1) -> None:
        flow = Flow("udp", "udp:5060", "192.0.2.1", 5060)
        binding = Binding("sip:alice@192.0.2.1", 1.0, expires_at, flow, "n1:1", "c", 1)
        expires_ms = int(expires_at * 1000)
        self.memory.keyspace.register(
            WriteRegistration(
                1, aor, version - 1, version, f"w{version}", "n1:1", 0, write_bindings([binding]), expires_ms
            )
        )


async def test_registrations_are_read_page_by_page() -> None:
    house = House()
    names = [AddressOfRecord(f"sip:{user}@example.com") for user in "abc"]
    for aor in names:
        house.bind(aor)
    first, last = await house.registry.registrations(after=None, limit=2)
    assert ([it["aor"] for it in first], last) == (names[:2], names[1])
    second, last = await house.registry.registrations(after=last, limit=2)
    assert ([it["aor"] for it in second], last) == (names[2:], None)
    one = await house.registry.registration(names[0])
    assert one is not None
    assert one["bindings"][0]["expires_at"] == "1970-01-01T00:33:20.000Z"
    assert await house.registry.registration(ALICE) is None


async def test_what_has_expired_is_not_shown_though_nobody_has_noticed_yet() -> None:
    house = House()
    house.bind(ALICE, expires_at=1001.0)
    house.time = 1001.0
    assert await house.registry.registration(ALICE) is None
    assert await house.registry.registrations(after=None, limit=2) == ([], None)


@pytest.mark.parametrize("answer", [2, 0, None])
async def test_a_removal_waits_for_the_node_s_answer(answer: int | None) -> None:
    house = House()
    house.answers = (answer, 99)  # only the first counts
    assert await house.registry.deregister(ALICE) == answer
    house.registry.deregistered(Deregistered(99, 1))  # nobody asked


async def test_a_user_goes_to_the_store_and_to_the_node() -> None:
    house = House()
    existed, resource = await house.registry.put_user("alice", "secret", ALICE)
    assert (existed, resource) == (False, {"username": "alice", "aor": ALICE, "source": "api"})
    user = User("alice", make_ha1("alice", "r", "secret"), ALICE)
    assert house.given == [UsersChanged({"alice": user})]
    assert await house.registry.user("alice") == resource
    assert await house.registry.put_user("alice", "other", None) == (True, {**resource, "aor": None})
    assert await house.registry.delete_user("alice") == {**resource, "aor": None}
    assert house.given[-1] == UsersChanged({"alice": None})
    assert await house.registry.delete_user("alice") is None
    assert await house.registry.user("alice") is None


async def test_a_password_is_not_kept() -> None:
    house = House()
    await house.registry.put_user("alice", "secret", None)
    record = await house.memory.record("user", "alice")
    assert record is not None
    assert b"secret" not in record


async def test_the_configuration_s_users_are_its_own() -> None:
    house = House()
    assert house.registry.is_from_file("filed")
    assert not house.registry.is_from_file("alice")
    assert await house.registry.user("filed") == {"username": "filed", "aor": None, "source": "file"}


async def test_users_that_another_node_has_made_are_heard_of() -> None:
    here = House()
    there = House(memory=here.memory)
    await there.registry.put_user("alice", "secret", None)
    await here.registry.load_users()
    assert here.given == [UsersChanged({"alice": User("alice", make_ha1("alice", "r", "secret"))})]
    await here.registry.load_users()
    assert len(here.given) == 1
    await there.registry.delete_user("alice")
    await here.registry.load_users()
    assert here.given[1:] == [UsersChanged({"alice": None})]


async def test_a_user_of_another_realm_proves_nothing() -> None:
    here = House()
    there = House(realm="old", memory=here.memory)
    await there.registry.put_user("alice", "secret", ALICE)
    await here.registry.load_users()
    assert here.given == [UsersChanged({"alice": None})]
    assert await here.registry.user("alice") == {"username": "alice", "aor": None, "source": "api"}


def test_a_record_is_read_as_it_was_written() -> None:
    user = User("alice", Ha1("m", "s"), ALICE)
    assert read_user("alice", write_user(user, "r", None), "r", None) == user
    for damaged in (b"", b"{}", b"[]", b"null", b'{"v":2}', b'{"v":1,"realm":"r"}'):
        assert read_user("alice", damaged, "r", Sealing()) is None


def test_what_proves_a_user_is_sealed_where_there_is_a_key() -> None:
    user, seal = User("alice", Ha1("m" * 32, "s" * 64), ALICE), Sealing()
    record = write_user(user, "r", seal)
    assert b"mmm" not in record
    assert b"sss" not in record
    assert read_user("alice", record, "r", seal) == user
    assert read_user("alice", write_user(user, "r", None), "r", seal) == user, "as a release before wrote it"
    assert read_user("alice", record, "r", Sealing("another")) is None
    assert read_user("alice", record, "r", None) is None
    assert read_user("alice", record, "other", seal) is None


async def test_a_sealed_user_reaches_the_node_and_another_key_leaves_it_out() -> None:
    house = House(seal=Sealing())
    await house.registry.put_user("alice", "wonderland", None)
    twin = House(memory=house.memory, seal=Sealing())
    await twin.registry.load_users()
    assert twin.given == [UsersChanged({"alice": User("alice", make_ha1("alice", "r", "wonderland"))})]
    stranger = House(memory=house.memory, seal=Sealing("another"))
    await stranger.registry.load_users()
    assert stranger.given == [UsersChanged({"alice": None})]


async def _running(work: Any) -> asyncio.Task[None]:
    return asyncio.create_task(work)


async def test_expiries_are_looked_for_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.registry.LOOK_S", 0.001)
    house, counted = House(), []
    house.bind(ALICE, expires_at=1001.0)
    house.bind(AddressOfRecord("sip:bob@example.com"))
    house.time = 1001.0
    task = await _running(house.registry.expire(counted.append))
    await until(lambda: RegistrationsDue((ALICE,)) in house.given, "it is due")
    house.memory.go_away()
    await until(lambda: house.memory._linked is False, "the store is away")
    house.memory.come_back()
    seen = len(counted)
    await until(lambda: len(counted) > seen, "it looks again")
    task.cancel()
    assert set(counted) == {2}


async def test_users_are_looked_for_though_the_store_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOOK_S <= 1.0
    monkeypatch.setattr("bridge.registry.LOOK_S", 0.001)
    house = House()
    house.memory.go_away()
    with pytest.raises(StoreUnavailable):
        await house.registry.load_users()
    task = await _running(house.registry.keep_users())
    await asyncio.sleep(0)
    house.memory.come_back()
    await house.memory.put_record("user", "alice", write_user(FILED, "r", None))
    await until(lambda: any(isinstance(each, UsersChanged) for each in house.given), "they are heard of")
    task.cancel()
