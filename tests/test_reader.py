"""What REST reads and commands: a real node over the memory store, live calls and ended ones, lists page by page."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from bridge.ambient import SystemTokens
from bridge.api import CallFilters, Page, Position
from bridge.calls.actions import Answer, Hangup, Park, Ring
from bridge.calls.call import Identity, Plan
from bridge.calls.facts import CallId, ConversationId
from bridge.contract.originating import OriginateBody
from bridge.engine.commit import CallWrite, Claim, Remembered, Take
from bridge.engine.effects import (
    ClosePorts,
    CommandAccepted,
    CommandRefused,
    Deliver,
    Effect,
    HeldPorts,
    OpenPorts,
    Originated,
    Resolve,
    SetRule,
)
from bridge.engine.inputs import Committed, Input, Originate, Packet, PortsClosed, PortsOpened, Resolved
from bridge.engine.node import Node
from bridge.engine.settings import Application, Listener, Match, NodeSettings
from bridge.errors import StoreUnavailable
from bridge.outbox.effects import Delivery, Endpoint
from bridge.outbox.schedule import Outcome
from bridge.pump import Pump
from bridge.reader import Reader
from bridge.registry import Registry
from bridge.service import ContractRenderer
from bridge.sip.flow import Flow, Send
from bridge.store import Whereabouts
from bridge.store.memory import MemoryStore
from bridge.telemetry.metrics import Metrics
from bridge.trunks import Trunks
from tests.engine.world import Sealing
from tests.store.writes import commit
from tests.support.phone import Message, read_message
from tests.support.waiting import until, until_awaited

FLOW = Flow("udp", "udp:5060", "192.0.2.1", 5062)
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
NOBODY = CallId("call_nobody")
ALL = CallFilters()


def _application(name: str, *users: str) -> Application:
    endpoint = Endpoint(name, "http://app/calls", None, decision=True)
    return Application(name, Plan(name, ()), (endpoint,), Match(users=frozenset(users)))


class House:
    """A node with everything around it in this process: a media worker that obeys, an application that parks, one caller."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.sent: list[Message] = []
        self.bodies: list[bytes] = []
        self.pump = Pump(clock=self, metrics=Metrics())
        self.memory = MemoryStore(give=self.pump.store, clock=self)
        settings = NodeSettings(
            owner="n1:a",
            node_id="n1",
            nonce="m",
            secret=b"s" * 32,
            listeners={
                "udp:5060": Listener("udp:5060", "192.0.2.10", Identity("<sip:192.0.2.10>", "bridge", "INVITE"))
            },
            applications=(_application("sales", "7*"), _application("desk")),
        )
        node = Node(settings, render=ContractRenderer(), tokens=SystemTokens(), chance=lambda: 0.5, seal=Sealing())
        self.registry = Registry(pump=self.pump, store=self.memory, clock=self, realm="r", users={}, seal=None)
        self.pump.connect(
            node,
            listeners={"udp:5060": self},
            store=self.memory,
            media=self,
            webhooks=_Post(self),
            registrations=self.registry,
            trunks=Trunks(pump=self.pump, store=self.memory, trunks={}, seal=Sealing()),
            names=self,
        )
        self.reader = Reader(pump=self.pump, store=self.memory, tokens=SystemTokens(), seal=Sealing())

    def now(self) -> float:
        return self.time

    # The adapters

    def send(self, send: Send) -> None:
        self.sent.append(read_message(send.data))

    def open_ports(self, wanted: OpenPorts) -> None:
        asyncio.get_running_loop().call_soon(self.pump.give, PortsOpened(wanted.session, "192.0.2.10", 20000))

    def set_rule(self, wanted: SetRule) -> None: ...

    def close_ports(self, wanted: ClosePorts) -> None:
        asyncio.get_running_loop().call_soon(self.pump.give, PortsClosed(wanted.session, None))

    def reconcile(self, sessions: Mapping[str, HeldPorts]) -> None: ...

    def resolve(self, wanted: Resolve) -> None:
        asyncio.get_running_loop().call_soon(self.pump.give, Resolved(wanted.reader, ()))

    # The caller

    def say(self, method: str, name: str, *, user: str = "100", number: int = 1, to_tag: str = "") -> None:
        body = SDP if method == "INVITE" else ""
        typed = "Content-Type: application/sdp\r\n" if body else ""
        tag = f";tag={to_tag}" if to_tag else ""
        text = (
            f"{method} sip:{user}@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK{name}{method}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:a@192.0.2.1>;tag={name}\r\nTo: <sip:{user}@192.0.2.10>{tag}\r\n"
            f"Call-ID: {name}\r\nCSeq: {number} {method}\r\nContact: <sip:a@192.0.2.1:5062>\r\n{typed}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.pump.packet(Packet(text.encode(), FLOW))

    def said(self, name: str, status: int) -> list[Message]:
        return [message for message in self.sent if (message["call-id"], message.status) == (name, status)]

    async def begin(self, name: str, *, user: str = "100") -> CallId:
        """A call that rings, a second after the one before it."""
        self.time += 1.0
        known = {call.id for call in self.pump.node.calls()}
        self.say("INVITE", name, user=user)
        await until(lambda: self.said(name, 180), f"{name} rings")
        return next(call.id for call in self.pump.node.calls() if call.id not in known)

    async def answered(self, name: str, *, user: str = "100") -> CallId:
        call = await self.begin(name, user=user)
        assert isinstance(await self.reader.command(call, (Answer(),), listed=False), CommandAccepted)
        (ok,) = await until(lambda: self.said(name, 200), f"{name} is answered")
        self.say("ACK", name, user=user, to_tag=ok.tag("to"))
        return call

    async def ended(self, name: str, *, user: str = "100") -> CallId:
        """A call that is over, and of which this node knows nothing any more."""
        call = await self.begin(name, user=user)
        self.say("CANCEL", name, user=user)
        await until(lambda: self.pump.node.call(call) is None, f"{name} is let go")
        return call


class _Post:
    """The webhook sender: every event is taken, and nothing decided."""

    def __init__(self, house: House) -> None:
        self._house = house

    def send(self, delivery: Delivery) -> None:
        self._house.bodies.append(delivery.body)
        outcome = Outcome(200, None, None, 0.01)
        asyncio.get_running_loop().call_soon(self._house.pump.delivered, delivery, outcome)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    house.pump.close()


class TestOneCall:
    async def test_a_live_call_is_read_from_the_node(self, house: House) -> None:
        call = await house.answered("one")
        read = await house.reader.call(call)
        assert read is not None
        assert (read["id"], read["state"], read["sip"]["call_id"]) == (call, "answered", "one")

    async def test_an_ended_one_from_the_store(self, house: House) -> None:
        call = await house.ended("one")
        read = await house.reader.call(call)
        assert read is not None
        assert (read["id"], read["state"], read["ended"]["reason"]) == (call, "ended", "canceled")

    async def test_an_ended_one_from_the_store_also_while_its_last_events_wait(self, house: House) -> None:
        """An heir carries it for them, and has no figures of it."""
        call = await house.answered("one")
        house.pump._carry[Deliver] = lambda effect: None  # nobody takes an event any more
        assert isinstance(await house.reader.command(call, (Hangup(),), listed=False), CommandAccepted)
        for _ in range(100):
            if await house.memory.final_record(call) is not None:
                break
            await asyncio.sleep(0)
        record = await house.memory.final_record(call)
        carried = house.pump.node.call(call)
        assert record is not None
        assert carried is not None
        carried.recovered = 1
        assert await house.reader.call(call) == json.loads(record)
        page = await house.reader.calls(ALL, before=None, limit=10)
        assert page.data == [json.loads(record)]
        house.memory.go_away()
        read = await house.reader.call(call)
        assert read is not None
        assert read["recovered"] == 1

    async def test_one_that_nobody_knows_is_none(self, house: House) -> None:
        assert await house.reader.call(NOBODY) is None

    async def test_its_events_are_those_that_were_sent_byte_for_byte_also_after_its_end(self, house: House) -> None:
        call = await house.ended("one")
        events = await house.reader.events(call)
        assert events is not None
        assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
        assert [body for _, body in events] == house.bodies
        assert json.loads(events[-1][1])["type"] == "call.ended"
        assert await house.reader.events(NOBODY) is None


class TestCommands:
    async def test_a_live_call_does_as_it_is_told(self, house: House) -> None:
        call = await house.answered("one")
        said = await house.reader.command(call, (Hangup(),), listed=False)
        assert isinstance(said, CommandAccepted)
        assert len(said.action_ids) == 1
        await until(lambda: [message for message in house.sent if message.method == "BYE"], "BYE leaves")

    async def test_a_list_is_taken_as_a_whole(self, house: House) -> None:
        call = await house.begin("one")
        said = await house.reader.command(call, (Ring(), Park()), listed=True)
        assert isinstance(said, CommandAccepted)
        assert len(said.action_ids) == 2

    async def test_what_does_not_fit_is_refused_and_each_answer_is_one_s_own(self, house: House) -> None:
        call = await house.answered("one")
        first, second = await asyncio.gather(
            house.reader.command(call, (Ring(),), listed=False), house.reader.command(call, (Park(),), listed=True)
        )
        assert isinstance(first, CommandRefused)
        assert first.code == "wrong_state"
        assert isinstance(second, CommandAccepted)

    async def test_an_ended_call_has_ended_and_an_unknown_one_is_not_found(self, house: House) -> None:
        call = await house.ended("one")
        for asked, code in ((call, "ended"), (NOBODY, "not_found")):
            said = await house.reader.command(asked, (Hangup(),), listed=False)
            assert isinstance(said, CommandRefused)
            assert said.code == code


class _Engine:
    """A node that stores what it is asked to originate, and answers when it is told that this is done."""

    unwritten = False

    def __init__(self) -> None:
        self.asked: list[Originate] = []

    def take(self, given: Input, *, now: float) -> list[Effect]:
        match given:
            case Originate():
                self.asked.append(given)
            case Committed(number):
                asked = self.asked[number]
                return [Originated(asked.request, asked.call, b"{}")]
        return []

    def deadline(self) -> float | None:
        return None


class TestOriginate:
    async def test_each_call_has_a_name_of_its_own_and_is_answered_when_it_is_stored(self, house: House) -> None:
        engine = _Engine()
        house.pump.node = cast("Node", engine)
        body = OriginateBody.model_validate({"to": "sip:b@example.org", "application": "sales"})
        asked = [asyncio.ensure_future(house.reader.originate(body, claim)) for claim in (None, Claim("ops:k", "f"))]
        await until(lambda: len(engine.asked) == 2, "both are asked for")
        assert not any(each.done() for each in asked)
        for number in (1, 0):
            house.pump.give(Committed(number))
            said = await asked[number]
            assert isinstance(said, Originated)
            assert said.call == engine.asked[number].call
        first, second = engine.asked
        assert first.request != second.request
        assert first.call != second.call
        assert all(re.fullmatch("call_[a-z2-7]{24}", each.call) for each in engine.asked)
        assert [(each.application, each.claim) for each in engine.asked] == [
            ("sales", None),
            ("sales", Claim("ops:k", "f")),
        ]

    async def test_what_came_of_a_key_is_read_from_the_store(self, house: House) -> None:
        assert await house.reader.remembered("ops:k") is None
        house.memory.commit(commit(1, claim=Claim("ops:k", "f", CallId("call_a"), b"{}")))
        await asyncio.sleep(0)
        assert await house.reader.remembered("ops:k") == Remembered("f", CallId("call_a"), 201, b"{}")


class TestStoreAway:
    async def test_what_only_the_store_knows_is_unavailable_and_says_so(self, house: House) -> None:
        call = await house.ended("one")
        house.memory.go_away()
        for asked in (
            house.reader.call(call),
            house.reader.calls(ALL, before=None, limit=10),
            house.reader.events(call),
            house.reader.conversation(ConversationId("conv_gone")),
            house.reader.remembered("ops:k"),
            house.reader.command(call, (Hangup(),), listed=False),
        ):
            with pytest.raises(StoreUnavailable):
                await asked

    async def test_live_calls_are_read_and_commanded_all_the_same(self, house: House) -> None:
        call = await house.answered("one")
        house.memory.go_away()
        assert await house.reader.call(call) is not None
        assert isinstance(await house.reader.command(call, (Park(),), listed=False), CommandAccepted)


class TestConversations:
    async def test_one_is_read_while_it_lives_and_afterwards(self, house: House) -> None:
        live, over = await house.answered("one"), await house.ended("two")
        for call in (live, over):
            conversation = ConversationId(await _conversation_of(house, call))
            read = await house.reader.conversation(conversation)
            assert read is not None
            assert (read["id"], read["calls"]) == (conversation, [call])
        assert await house.reader.conversation(ConversationId("conv_nobody")) is None

    async def test_one_whose_calls_were_taken_says_by_which(self, house: House) -> None:
        for name in ("a", "b"):
            made = commit(1, conversation=f"conv_{name}", call=f"call_{name}")
            house.memory.commit(made._replace(head=b'{"created_at": 1000000.0}'))
        move = commit(2, conversation="conv_b", call="call_b")
        moved = CallWrite(CallId("call_a"), 1000, b"fixed", b"variable")
        take = Take(ConversationId("conv_a"), 1, "m", 2, b'{"created_at": 1000000.0}', (CallId("call_a"),))
        house.memory.commit(move._replace(calls=(*move.calls, moved), takes=(take,)))
        await asyncio.sleep(0)
        read = await house.reader.conversation(ConversationId("conv_a"))
        assert read is not None
        assert (read["calls"], read["merged_into"]) == ([], "conv_b")

    async def test_live_ones_are_listed_newest_first_page_by_page(self, house: House) -> None:
        calls = [await house.begin(name) for name in ("one", "two", "three")]
        await house.ended("four")
        pages = [await house.reader.conversations(before=None, limit=2)]
        assert pages[0].next is not None
        pages.append(await house.reader.conversations(before=pages[0].next, limit=2))
        assert pages[1].next is None
        assert [each["calls"][0] for page in pages for each in page.data] == calls[::-1]


class TestList:
    async def test_live_and_ended_calls_newest_first(self, house: House) -> None:
        calls = [await house.ended("one"), await house.answered("two"), await house.ended("three")]
        page = await house.reader.calls(ALL, before=None, limit=10)
        assert [(each["id"], each["state"]) for each in page.data] == [
            (calls[2], "ended"),
            (calls[1], "answered"),
            (calls[0], "ended"),
        ]
        assert page.next is None

    @pytest.mark.parametrize(("limit", "sizes"), [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (5, [4])])
    async def test_pages_join_without_a_gap_and_the_last_one_knows_that_it_is(
        self, house: House, limit: int, sizes: list[int]
    ) -> None:
        calls = [await house.begin(name) for name in ("one", "two", "three", "four")]
        pages = await _pages(house.reader, ALL, limit)
        assert [len(page.data) for page in pages] == sizes
        assert [each["id"] for page in pages for each in page.data] == calls[::-1]

    @pytest.mark.parametrize("limit", [1, 2, 10])
    async def test_filters_choose_and_every_match_is_found_once(self, house: House, limit: int) -> None:
        sales = [await house.begin("one", user="700"), await house.ended("two", user="701")]
        desk = [await house.ended("three"), await house.answered("four")]
        wanted = {
            CallFilters(state="ended"): [desk[0], sales[1]],
            CallFilters(state="answered"): [desk[1]],
            CallFilters(application="sales"): sales[::-1],
            CallFilters(application="sales", state="ringing"): [sales[0]],
            CallFilters(direction="inbound"): [*desk[::-1], *sales[::-1]],
            CallFilters(direction="outbound"): [],
        }
        for filters, expected in wanted.items():
            pages = await _pages(house.reader, filters, limit)
            assert [each["id"] for page in pages for each in page.data] == expected, filters

    async def test_a_call_that_only_the_index_knows_is_passed_over(self, house: House) -> None:
        call = await house.begin("one")
        reader = Reader(
            pump=house.pump, store=_Rows([(5, call, None), (4, NOBODY, None)]), tokens=SystemTokens(), seal=Sealing()
        )
        page = await reader.calls(ALL, before=None, limit=10)
        assert [each["id"] for each in page.data] == [call]


class _Rows(MemoryStore):
    """A store that has these rows to list, and counts how often it is asked."""

    def __init__(self, rows: list[tuple[int, CallId, bytes | None]]) -> None:
        self.rows = rows
        self.asked = 0

    async def whereabouts(self, call: CallId) -> Whereabouts | None:
        return None

    async def list_calls(self, *, before: tuple[int, str] | None, limit: int) -> list[tuple[int, CallId, bytes | None]]:
        self.asked += 1
        return [row for row in self.rows if before is None or (row[0], row[1]) < before][:limit]


class TestLongList:
    """5,000 ended calls of which the oldest two are somebody's."""

    @pytest.fixture
    def store(self) -> _Rows:
        def record(number: int) -> bytes:
            mine = "sales" if number < 2 else "desk"
            shown = {"id": f"call_{number:04}", "state": "ended", "direction": "inbound", "application": mine}
            return json.dumps(shown).encode()

        return _Rows([(number, CallId(f"call_{number:04}"), record(number)) for number in reversed(range(5000))])

    async def test_a_rare_match_is_looked_for_a_part_at_a_time(self, house: House, store: _Rows) -> None:
        reader = Reader(pump=house.pump, store=store, tokens=SystemTokens(), seal=Sealing())
        pages = await _pages(reader, CallFilters(application="sales"), 1)
        assert [len(page.data) for page in pages] == [0, 0, 1, 1]
        assert [page.next for page in pages[:2]] == [Position(3000, "call_3000"), Position(1000, "call_1000")]
        assert store.asked < 40  # by hundreds, and not one by one

    async def test_without_a_filter_no_more_is_read_than_is_shown(self, house: House, store: _Rows) -> None:
        reader = Reader(pump=house.pump, store=store, tokens=SystemTokens(), seal=Sealing())
        page = await reader.calls(ALL, before=None, limit=3)
        assert [each["id"] for each in page.data] == ["call_4999", "call_4998", "call_4997"]
        assert store.asked == 1


async def _pages(reader: Reader, filters: CallFilters, limit: int) -> list[Page]:
    pages = [await reader.calls(filters, before=None, limit=limit)]
    while (place := pages[-1].next) is not None:
        assert len(pages) < 20, "it goes in circles"
        pages.append(await reader.calls(filters, before=place, limit=limit))
    return pages


async def _conversation_of(house: House, call: CallId) -> str:
    read: dict[str, Any] | None = await house.reader.call(call)
    assert read is not None
    return str(read["conversation_id"])


class TestElsewhere:
    """Live calls that another node carries."""

    @pytest.fixture
    async def beside(self, house: House) -> Reader:
        """A node that carries nothing, on the same store."""
        other = House()
        return Reader(pump=other.pump, store=house.memory, tokens=SystemTokens(), seal=Sealing())

    async def test_it_is_shown_as_it_was_last_written(self, house: House, beside: Reader) -> None:
        call = await house.answered("there")

        async def answered() -> bool:
            shown = await beside.call(call)
            return shown is not None and shown["state"] == "answered"

        await until_awaited(answered, "it is written")
        shown = await beside.call(call)
        here = await house.reader.call(call)
        assert shown is not None
        assert here is not None
        assert {key: shown[key] for key in ("id", "state", "from", "to", "application")} == {
            key: here[key] for key in ("id", "state", "from", "to", "application")
        }
        page = await beside.calls(ALL, before=None, limit=10)
        assert [each["id"] for each in page.data] == [call]

    async def test_what_another_release_has_written_hides_no_other_call(self, house: House, beside: Reader) -> None:
        call = await house.answered("there")
        house.memory.commit(commit(1, conversation="conv_new", call="call_new", owner="n3:a", created_ms=1))
        await until(lambda: house.memory.keyspace.whereabouts(CallId("call_new")) is not None, "it is stored")
        page = await beside.calls(ALL, before=None, limit=10)
        assert [each["id"] for each in page.data] == [call]
        with pytest.raises(StoreUnavailable, match="another release"):
            await beside.call(CallId("call_new"))

    async def test_a_call_that_nobody_has_is_none(self, beside: Reader) -> None:
        assert await beside.call(NOBODY) is None
