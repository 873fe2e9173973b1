"""What every store keeps of registrations and users: compare and set, their events, expiries. The same tests over each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.calls.facts import CallId
from bridge.engine.commit import Ack, Postponed
from bridge.engine.inputs import StoreAway, StoreBack
from bridge.engine.registrations import (
    BindingsRead,
    ForgetEvents,
    ReadBindings,
    RegistrationRefused,
    RegistrationWritten,
    StoredRegistration,
    StoredStream,
    WriteRegistration,
    stream_of,
    write_bindings,
)
from bridge.sip.flow import Flow
from bridge.sip.registrar import AddressOfRecord, Binding
from bridge.store import Changes, Due
from bridge.store.memory import MemoryStore
from bridge.store.redis import RedisStore
from tests.store.conftest import Hands, Place
from tests.store.servers import Passage, Server
from tests.store.writes import OWNER, Inbox, Node, commit

ALICE = AddressOfRecord("sip:alice@example.com")
BOB = AddressOfRecord("sip:bob@example.com")
STREAM = stream_of(ALICE)
SUCCESSOR = "n1:bbb"
STRANGER = "n2:ccc"
BINDING = Binding("sip:alice@192.0.2.1", 1.0, 2000.0, Flow("udp", "udp:5060", "192.0.2.1", 5060), OWNER, "c", 1)


def registration(
    version: int,
    *,
    expected: int | None = None,
    aor: AddressOfRecord = ALICE,
    owner: str = OWNER,
    sequence: int | None = None,
    events: tuple[int, ...] = (),
    expires_ms: int | None = 2_000_000,
    name: str | None = None,
) -> WriteRegistration:
    """A write whose every byte tells which one it was; its ticket is its version."""
    return WriteRegistration(
        ticket=version,
        aor=aor,
        expected=version - 1 if expected is None else expected,
        version=version,
        write=name or f"{owner} {version}",
        owner=owner,
        sequence=max(events, default=0) if sequence is None else sequence,
        bindings=b"bindings %d" % version,
        expires_ms=expires_ms,
        events=tuple((event, b"event %d" % event) for event in events),
    )


async def write(node: Node, made: WriteRegistration) -> RegistrationWritten | RegistrationRefused:
    """Write, and wait for what comes of it."""
    before = len(answers(node.inbox))
    node.store.write_registration(made)
    await node.inbox.until(lambda: len(answers(node.inbox)) > before)
    return answers(node.inbox)[-1]


def answers(inbox: Inbox) -> list[RegistrationWritten | RegistrationRefused]:
    return [given for given in inbox.inputs if isinstance(given, RegistrationWritten | RegistrationRefused)]


async def test_a_registration_is_answered_later_and_read_back(place: Place) -> None:
    node = await place.node()
    node.store.write_registration(registration(1))
    assert node.inbox.inputs == []  # never from within
    await node.inbox.holds(RegistrationWritten(1))
    assert await node.store.registration(ALICE) == b"bindings 1"
    assert await node.store.registration(BOB) is None


async def test_of_two_nodes_writing_the_same_version_one_learns_what_the_other_wrote(place: Place) -> None:
    here, there = await place.node(), await place.node()
    assert await write(here, registration(1, events=(1,))) == RegistrationWritten(1)
    refused = await write(there, registration(1, owner=STRANGER))
    assert refused == RegistrationRefused(1, StoredRegistration(1, 1, b"bindings 1"))
    assert await write(there, registration(2, owner=STRANGER, sequence=1)) == RegistrationWritten(
        2, StoredStream(ALICE, ((1, b"event 1"),), ())
    )
    assert await here.store.registration(ALICE) == b"bindings 2"


async def test_what_nobody_has_written_is_version_0(place: Place) -> None:
    node = await place.node()
    refused = await write(node, registration(5))
    assert refused == RegistrationRefused(5, StoredRegistration(0, 0, b""))
    assert await node.store.registration(ALICE) is None


async def test_a_repeated_write_is_applied_once_and_answered_alike(place: Place) -> None:
    here, there = await place.node(), await place.node()
    await write(here, registration(1, events=(1,)))
    second = registration(2, owner=STRANGER, events=(2,))
    left = StoredStream(ALICE, ((1, b"event 1"),), ())
    assert await write(there, second) == RegistrationWritten(2, left)
    repeated = await write(there, second)
    assert repeated == RegistrationWritten(2, StoredStream(ALICE, ((1, b"event 1"), (2, b"event 2")), ()))
    assert (await write(there, registration(3, owner=STRANGER, events=(3,)))) == RegistrationWritten(3)


async def test_a_version_may_be_skipped_by_who_knows_more_than_the_store(place: Place) -> None:
    node = await place.node()
    await write(node, registration(7, expected=0))
    assert await write(node, registration(8)) == RegistrationWritten(8)


async def test_one_without_bindings_is_not_listed(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1))
    await write(node, registration(2, expires_ms=None))
    assert await node.store.registration(ALICE) is None
    assert await node.store.list_registrations(after=None, limit=10) == []
    assert await node.store.due_registrations(9_000_000, 10) == Due((), 0)
    assert await write(node, registration(3)) == RegistrationWritten(3)  # it goes on counting


async def test_one_without_bindings_is_forgotten_after_a_while_unless_somebody_comes_back(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1, events=(1,)))
    assert _lasts(place) == [None, None]
    await write(node, registration(2, expires_ms=None, events=(2,)))
    assert _lasts(place) == [30 * 86_400, 30 * 86_400]
    await write(node, registration(3, events=(3,)))
    assert _lasts(place) == [None, None]


def _lasts(place: Place) -> list[int | None]:
    """For how many seconds the registration and its events are kept; None: for ever."""
    if place.server is None:
        cells = (place.keyspace._registrations._cells[ALICE], place.keyspace._out._cells[STREAM])
        return [None if cell[1] is None else round(cell[1] - place.clock.now()) for cell in cells]
    ttls = [int(place.server.ask("PTTL", f"{place.prefix}:{key}")[1:]) for key in (f"reg:{ALICE}", f"out:{STREAM}")]
    return [None if ttl < 0 else round(ttl / 1000) for ttl in ttls]


async def test_registrations_are_listed_page_by_page(place: Place) -> None:
    node = await place.node()
    names = [AddressOfRecord(f"sip:{user}@example.com") for user in ("é", "b", "a", "Z", "a b".replace(" ", ""))]
    for aor in names:
        await write(node, registration(1, aor=aor))
    ordered = sorted(names, key=str.encode)
    found: list[AddressOfRecord] = []
    while page := await node.store.list_registrations(after=found[-1] if found else None, limit=2):
        assert all(bindings == b"bindings 1" for _, bindings in page)
        found += [aor for aor, _ in page]
    assert found == ordered


async def test_what_is_due_is_told_the_longest_first(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1, expires_ms=3000))
    await write(node, registration(1, aor=BOB, expires_ms=2000))
    assert await node.store.due_registrations(1999, 10) == Due((), 2)
    assert await node.store.due_registrations(3000, 10) == Due((BOB, ALICE), 2)
    assert await node.store.due_registrations(3000, 1) == Due((BOB,), 2)
    await write(node, registration(2, aor=BOB, expires_ms=9000))
    assert await node.store.due_registrations(3000, 10) == Due((ALICE,), 2)


async def test_bindings_are_read_on_the_fast_way_too(place: Place) -> None:
    node = await place.node()
    made = registration(1)
    node.store.write_registration(
        WriteRegistration(
            **{name: getattr(made, name) for name in made.__slots__} | {"bindings": write_bindings([BINDING])}
        )
    )
    node.store.read_bindings(ReadBindings(7, ALICE))
    node.store.read_bindings(ReadBindings(8, BOB))
    await node.inbox.holds(BindingsRead(7, ALICE, (BINDING,)), BindingsRead(8, BOB, ()))


async def test_events_wait_for_who_owns_the_stream_and_are_forgotten_once_settled(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1, events=(1, 2)))
    await write(node, registration(2, events=(3,)))
    node.store.acknowledge([Ack(STREAM, "hook", 1)])
    postponed = Postponed(STREAM, "hook", 2, 1, 5000)
    node.store.postpone(postponed)
    events = ((1, b"event 1"), (2, b"event 2"), (3, b"event 3"))
    await _until(
        lambda: node.store.claim_streams(SUCCESSOR, "n1"), [StoredStream(ALICE, events, (("hook", 1),), (postponed,))]
    )
    node.store.forget_events(ForgetEvents(ALICE, SUCCESSOR, (("hook", 3),), 1, 3))
    await _until(lambda: node.store.claim_streams(SUCCESSOR, "n1"), [])
    refused = await write(node, registration(4, owner=STRANGER))
    assert refused == RegistrationRefused(4, StoredRegistration(2, 3, b"bindings 2"))
    taken = await write(node, registration(3, owner=STRANGER, sequence=3))
    assert taken == RegistrationWritten(3, StoredStream(ALICE, (), (("hook", 3),)))


async def test_a_stream_with_newer_events_stays_in_the_index(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1, events=(1,)))
    await write(node, registration(2, events=(2,)))
    node.store.forget_events(ForgetEvents(ALICE, OWNER, (("hook", 1),), 1, 1))
    kept = [StoredStream(ALICE, ((2, b"event 2"),), (("hook", 1),))]
    await _until(lambda: node.store.claim_streams(SUCCESSOR, "n1"), kept)
    assert await node.store.claim_streams(SUCCESSOR, "n1") == kept  # asked twice, told twice


async def test_a_stream_belongs_to_who_wrote_last(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1, events=(1,)))
    await write(node, registration(2, owner=STRANGER, events=(2,)))
    assert await node.store.claim_streams(SUCCESSOR, "n1") == []
    (stream,) = await node.store.claim_streams("n2:ddd", "n2")
    assert stream.events == ((1, b"event 1"), (2, b"event 2"))


async def test_a_stream_that_was_taken_from_another_node_is_found_in_our_own_index(place: Place) -> None:
    """So that an heir whose answer was lost can ask for it again: the dead node's index has it no more."""
    node = await place.node()
    await write(node, registration(1, events=(1,)))
    (taken,) = await node.store.claim_streams("n2:ddd", "n1")
    assert await node.store.claim_streams("n2:ddd", "n1") == []
    assert await node.store.claim_streams("n2:ddd", "n2") == [taken]


async def test_streams_of_calls_are_none_of_this(place: Place) -> None:
    node = await place.node()
    await node.write(commit(1, call="aor_like", events=(1,)))
    assert await node.store.claim_streams(SUCCESSOR, "n1") == []
    assert await node.store.events(CallId("aor_like")) == [(1, b"event 1")]


async def test_users_are_kept_changed_and_taken_away(place: Place) -> None:
    node = await place.node()
    assert await node.store.put_record("user", "alice", b"one") is False
    assert await node.store.put_record("user", "alice", b"two") is True
    assert await node.store.record("user", "alice") == b"two"
    assert await node.store.delete_record("user", "alice") is True
    assert await node.store.delete_record("user", "alice") is False
    assert await node.store.record("user", "alice") is None


async def test_other_nodes_learn_what_has_changed(place: Place) -> None:
    here, there = await place.node(), await place.node()
    await here.store.put_record("user", "alice", b"one")
    await here.store.put_record("user", "bob", b"one")
    first = await there.store.changed_records("user", 0)
    assert first.records == {"alice": b"one", "bob": b"one"}
    assert await there.store.changed_records("user", first.revision) == Changes(first.revision, {})
    await here.store.put_record("user", "bob", b"two")
    await here.store.delete_record("user", "alice")
    second = await there.store.changed_records("user", first.revision)
    assert second.records == {"alice": None, "bob": b"two"}
    place.empty()
    assert (await there.store.changed_records("user", second.revision)).revision == 0
    await here.store.put_record("user", "carol", b"one")
    assert (await there.store.changed_records("user", second.revision)).records == {"carol": b"one"}


async def test_a_store_that_is_emptied_knows_nothing(place: Place) -> None:
    node = await place.node()
    await write(node, registration(1, events=(1,)))
    place.empty()
    assert await node.store.registration(ALICE) is None
    assert await node.store.claim_streams(SUCCESSOR, "n1") == []
    assert await write(node, registration(2)) == RegistrationRefused(2, StoredRegistration(0, 0, b""))


async def _until(read: Callable[[], object], expected: object) -> None:
    """What is written lazily is read again and again until it is there."""
    async with asyncio.timeout(15):
        while await read() != expected:  # type: ignore[misc]
            await asyncio.sleep(0.005)


async def test_a_write_whose_answer_is_lost_is_sent_again(make_server: Callable[..., Server]) -> None:
    server = make_server()
    passage = Passage(server, server.directory / "p")
    await passage.open()
    inbox = Inbox()
    store = RedisStore(passage.url, give=inbox.give)
    await store.open()
    try:
        passage.lose_next_reply()
        store.write_registration(registration(1, events=(1,)))
        await inbox.holds(RegistrationWritten(1))
        assert await store.registration(ALICE) == b"bindings 1"
        assert passage.opened > 1
    finally:
        await store.close()
        await passage.close()


async def test_who_reads_while_the_store_is_away_is_told_so(make_server: Callable[..., Server]) -> None:
    server = make_server()
    inbox = Inbox()
    store = RedisStore(server.url, give=inbox.give)
    await store.open()
    try:
        server.kill()
        store.read_bindings(ReadBindings(1, ALICE))
        await inbox.holds(StoreAway(), BindingsRead(1, ALICE, None))
        store.read_bindings(ReadBindings(2, ALICE))
        await inbox.holds(BindingsRead(2, ALICE, None))
        server.start()
        await inbox.holds(StoreBack())
        store.read_bindings(ReadBindings(3, ALICE))
        await inbox.holds(BindingsRead(3, ALICE, ()))
        assert len([given for given in inbox.inputs if isinstance(given, BindingsRead)]) == 3
    finally:
        await store.close()


async def test_a_memory_that_is_away_says_so() -> None:
    inbox = Inbox()
    store = MemoryStore(give=inbox.give, clock=Hands())
    store.go_away()
    store.read_bindings(ReadBindings(1, ALICE))
    await inbox.holds(BindingsRead(1, ALICE, None))
