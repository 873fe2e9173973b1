"""What befalls a real Redis, and what becomes of the writes: killed, stopped, full, emptied, its answers lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Ack, Release
from bridge.engine.inputs import CommitRefused, Committed, StoreAway, StoreBack
from bridge.errors import StoreUnavailable
from bridge.store import connection
from bridge.store.redis import RedisStore
from tests.store.servers import Passage, Server
from tests.store.test_claiming import ANSWER, CLAIM, OTHERS
from tests.store.test_taking import JOIN, THERE
from tests.store.writes import CALL, CONVERSATION, OWNER, Inbox, Node, commit

ANSWER_TO_B = replace(ANSWER, call=CallId("call_b"))

Opener = Callable[..., Awaitable[Node]]


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server("--appendonly", "yes", "--appendfsync", "everysec")


@pytest.fixture
async def open_store(server: Server) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as exits:

        async def open_one(url: str = server.url, **options: float) -> Node:
            inbox = Inbox()
            store = RedisStore(url, give=inbox.give, **options)  # type: ignore[arg-type]
            await store.open()
            exits.push_async_callback(store.close)
            return Node(store, inbox)

        yield open_one


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed at once, so that tests need not sit through it."""
    monkeypatch.setattr(connection, "WATCH_S", 0.02)
    monkeypatch.setattr(connection, "IDLE_S", 0.05)
    monkeypatch.setattr(connection, "LOST_AFTER_S", 0.4)


async def live_and_die(node: Node, name: str, *, created_ms: int = 1000) -> None:
    """One call from its creation to its release."""
    conversation, call = ConversationId(f"conv_{name}"), CallId(f"call_{name}")
    await node.write(commit(1, conversation=conversation, call=call, created_ms=created_ms, events=(1,)))
    await node.write(commit(2, conversation=conversation, call=call, created_ms=created_ms, events=(2,), ends=True))
    node.store.release(Release(conversation, (call,), OWNER))


async def until_connected(node: Node) -> None:
    await node.inbox.until(lambda: node.inbox.inputs.count(StoreBack()) == node.inbox.inputs.count(StoreAway()))


async def test_a_write_whose_answer_was_lost_is_sent_again_and_applied_once(
    server: Server, open_store: Opener, directory: Path
) -> None:
    passage = Passage(server, directory / "passage")
    await passage.open()
    node = await open_store(passage.url)
    await node.write(commit(1, events=(1,)))
    opened = passage.opened
    passage.lose_next_reply()
    answers = await node.write_all([commit(2, events=(2,)), commit(3, events=(3,))])
    assert answers == ["applied", "applied"]
    assert passage.opened == opened + 1
    await node.inbox.holds(StoreAway(), StoreBack())
    assert await node.write(commit(4)) == "applied"
    assert server.ask("HGET", "{bridge}:conv:conv_a", "version") == b"$1\r\n4\r\n"
    assert await node.store.events(CALL) == [(n, b"event %d" % n) for n in (1, 2, 3)]
    await node.store.close()
    await passage.close()


async def test_a_claim_and_a_move_whose_answers_were_lost_are_made_once(
    server: Server, open_store: Opener, directory: Path
) -> None:
    passage = Passage(server, directory / "passage")
    await passage.open()
    node = await open_store(passage.url)
    await node.write_all([commit(1), commit(2)])
    for made in (commit(1, conversation=THERE, call="call_b", claim=OTHERS), JOIN):
        away = node.inbox.inputs.count(StoreAway())
        passage.lose_next_reply()
        assert await node.write(made) == "applied"
        assert node.inbox.inputs.count(StoreAway()) == away + 1
        await until_connected(node)
    assert await node.store.remembered(CLAIM.key) == ANSWER_TO_B
    assert await node.store.conversation(CONVERSATION) == (b"head taken", (), THERE)
    assert server.ask("HKEYS", "{bridge}:owned:n1") == b"*1\r\n$6\r\nconv_b\r\n"
    assert await node.write(commit(3, conversation=THERE, call="call_b")) == "applied"
    await node.store.close()
    await passage.close()


async def test_a_killed_redis_with_its_file_comes_back_with_every_write(server: Server, open_store: Opener) -> None:
    node = await open_store()
    for version in range(1, 61):
        node.store.commit(commit(version, events=(version,), ticket=version))
        if version == 20:
            await node.inbox.holds(Committed(20))
        if version == 40:
            await asyncio.sleep(0)  # 21 to 40 have left, and are answered or not
            server.kill()
    await node.inbox.holds(StoreAway())
    server.start()
    await node.inbox.holds(Committed(60), StoreBack())
    assert node.inbox.answers() == [Committed(ticket) for ticket in range(1, 61)]
    assert await node.store.events(CALL) == [(n, b"event %d" % n) for n in range(1, 61)]


async def test_a_redis_that_restarts_empty_is_written_anew(make_server: Callable[..., Server]) -> None:
    server = make_server()
    inbox = Inbox()
    store = RedisStore(server.url, give=inbox.give)
    await store.open()
    node = Node(store, inbox)
    await node.write_all([commit(1, events=(1,)), commit(2)])
    server.kill()
    store.commit(commit(3))
    await inbox.holds(StoreAway())
    server.start()
    await inbox.holds(StoreBack(), CommitRefused(0, "stale"))
    assert await node.write(commit(4, epoch=2, whole=True, events=(1,))) == "applied"
    assert await node.store.events(CALL) == [(1, b"event 1")]
    await store.close()


async def test_a_stopped_redis_is_away_and_everything_is_applied_in_order_when_it_goes_on(
    server: Server, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOST_AFTER_S", 60.0)  # on the same connection
    node = await open_store(away_after_s=0.1)
    await node.write(commit(1))
    server.signal(signal.SIGSTOP)
    for version in range(2, 8):
        node.store.commit(commit(version, ticket=version))
    await node.inbox.holds(StoreAway())
    for version in range(8, 12):
        node.store.commit(commit(version, ticket=version))
    server.signal(signal.SIGCONT)
    await node.inbox.holds(StoreBack())
    assert node.inbox.answers() == [Committed(1), *(Committed(ticket) for ticket in range(2, 12))]
    assert node.inbox.inputs.count(StoreAway()) == node.inbox.inputs.count(StoreBack()) == 1


@pytest.mark.usefixtures("short_waits")
async def test_a_connection_that_stays_silent_is_given_up_and_late_copies_change_nothing(
    server: Server, open_store: Opener, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IN_FLIGHT_MAX", 3)  # some have left, and some have not
    passage = Passage(server, directory / "passage")
    await passage.open()
    node = await open_store(passage.url, away_after_s=0.1)
    await node.write(commit(1))
    opened = passage.opened
    server.signal(signal.SIGSTOP)
    sent = [commit(version, events=(version,), ticket=version) for version in range(2, 9)]
    for one in sent:
        node.store.commit(one)
    async with asyncio.timeout(10):
        while passage.opened == opened:  # the copies on the old connection wait in the stopped server's socket
            await asyncio.sleep(0.01)
    server.signal(signal.SIGCONT)
    await node.inbox.holds(StoreBack(), Committed(8))
    assert node.inbox.answers() == [Committed(1), *(Committed(ticket) for ticket in range(2, 9))]
    assert await node.write(commit(9)) == "applied"
    await node.store.close()
    await passage.close()


@pytest.mark.usefixtures("short_waits")
async def test_a_store_that_stops_while_nothing_is_written_is_noticed(server: Server, open_store: Opener) -> None:
    node = await open_store(away_after_s=0.1)
    server.signal(signal.SIGSTOP)
    await node.inbox.holds(StoreAway())
    server.signal(signal.SIGCONT)
    await node.inbox.holds(StoreBack())


@pytest.mark.parametrize(
    ("trouble", "remedy"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),  # OOM
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),  # READONLY
        (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
    ],
    ids=["full", "read-only", "without replicas"],
)
async def test_a_redis_that_refuses_writes_for_now_loses_none(
    server: Server, open_store: Opener, trouble: tuple[str, ...], remedy: tuple[str, ...]
) -> None:
    node = await open_store()
    await node.write(commit(1))
    assert server.ask(*trouble) == b"+OK\r\n"
    for version in (2, 3, 4):
        node.store.commit(commit(version, ticket=version))
    await node.inbox.holds(StoreAway())
    assert node.inbox.answers() == [Committed(1)]
    assert server.ask(*remedy) == b"+OK\r\n"
    await node.inbox.holds(StoreBack())
    assert node.inbox.answers() == [Committed(1), Committed(2), Committed(3), Committed(4)]


async def test_a_redis_that_forgot_the_scripts_is_told_them_again(server: Server, open_store: Opener) -> None:
    node = await open_store()
    await node.write(commit(1))
    assert server.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
    assert await node.write_all([commit(2), commit(3)]) == ["applied", "applied"]
    assert server.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
    assert len(await node.store.claim_predecessors("n1:bbb", "x")) == 1
    await until_connected(node)


async def test_a_meddled_key_costs_its_own_conversation_and_no_other(server: Server, open_store: Opener) -> None:
    node = await open_store()
    await node.write_all([commit(1), commit(1, conversation="conv_b", call="call_b")])
    server.ask("DEL", "{bridge}:conv:conv_a")
    server.ask("SET", "{bridge}:conv:conv_a", "not a hash")
    answers = await node.write_all([commit(2), commit(2, conversation="conv_b", call="call_b")])
    assert answers == ["lost", "applied"]
    assert StoreAway() not in node.inbox.inputs


async def test_a_full_queue_refuses_as_stale_once_the_store_is_back(
    server: Server, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IN_FLIGHT_MAX", 2)  # it drains bit by bit
    node = await open_store(away_after_s=0.1, queue_bytes_max=2000)
    await node.write(commit(1))
    server.signal(signal.SIGSTOP)
    for version in range(2, 30):
        node.store.commit(commit(version, ticket=version))
        await asyncio.sleep(0)
    await node.inbox.holds(StoreAway())
    assert node.inbox.answers() == [Committed(1)]
    server.signal(signal.SIGCONT)
    await node.inbox.holds(Committed(2))
    node.store.commit(commit(30, ticket=30))  # there is room again, but those before it are not answered yet
    await node.inbox.holds(StoreBack(), CommitRefused(30, "stale"))
    answers = node.inbox.answers()[1:]
    kept = sum(isinstance(answer, Committed) for answer in answers)
    assert 2 <= kept < 20
    assert answers[:kept] == [Committed(ticket) for ticket in range(2, 2 + kept)]
    assert answers[kept:] == [CommitRefused(ticket, "stale") for ticket in range(2 + kept, 31)]
    assert await node.write(commit(31, epoch=2, whole=True)) == "applied"


async def test_what_is_settled_during_an_outage_is_written_after_it(server: Server, open_store: Opener) -> None:
    node = await open_store(away_after_s=0.1)
    await node.write_all([commit(1, events=(1, 2)), commit(1, conversation="conv_b", call="call_b", events=(1,))])
    server.kill()
    await node.inbox.holds(StoreAway())
    for sequence in (1, 2):
        node.store.acknowledge([Ack(CALL, "hook", sequence)])
    node.store.commit(commit(2, ends=True, ticket=7))
    node.store.release(Release(CONVERSATION, (CALL,), OWNER))
    server.start()
    await node.inbox.holds(StoreBack(), Committed(7))
    async with asyncio.timeout(10):
        while server.ask("HKEYS", "{bridge}:owned:n1") != b"*1\r\n$6\r\nconv_b\r\n":
            await asyncio.sleep(0.005)
    assert server.ask("HGET", "{bridge}:out:call_a", "c:hook") == b"$1\r\n2\r\n"


async def test_reads_say_that_the_store_is_unavailable(server: Server, open_store: Opener) -> None:
    node = await open_store()
    server.kill()
    reads = (
        node.store.announce(OWNER, b"{}", 3.0),
        node.store.claim_predecessors(OWNER, "x"),
        node.store.final_record(CALL),
        node.store.stored_call(CALL),
        node.store.events(CALL),
        node.store.list_calls(before=None, limit=5),
        node.store.conversation(CONVERSATION),
        node.store.remembered("ops:k1"),
        node.store.secret("a", "b"),
        node.store.facts(),
    )
    for read in reads:
        with pytest.raises(StoreUnavailable):
            await read


async def test_an_index_that_is_behind_is_not_trusted(server: Server, open_store: Opener) -> None:
    node = await open_store()
    await node.write(commit(1, owner="n2:ccc"))
    await node.write(commit(2, epoch=2, whole=True))
    assert server.ask("EXISTS", "{bridge}:owned:n2") == b":0\r\n"  # it has moved
    server.ask("HSET", "{bridge}:owned:n2", CONVERSATION, "ccc", "conv_x", "ccc")
    assert await node.store.claim_predecessors("n2:ddd", "x") == []
    assert server.ask("EXISTS", "{bridge}:owned:n2") == b":0\r\n"
    assert await node.write(commit(3, epoch=2)) == "applied"


async def test_the_retention_of_a_final_record_begins_anew_at_the_release(server: Server, open_store: Opener) -> None:
    node = await open_store(retention_s=100.0)
    await node.write(commit(1, ends=True))
    server.ask("PEXPIRE", "{bridge}:call:call_a", "20000")  # most of it has passed
    node.store.release(Release(CONVERSATION, (CALL,), OWNER))
    await node.store.close()
    assert int(server.ask("PTTL", "{bridge}:call:call_a")[1:]) > 90_000


async def test_each_announcement_says_everything(server: Server, open_store: Opener) -> None:
    node = await open_store()
    for facts in (b'{"load": 1}', b'{"load": 2}'):
        await node.store.announce(OWNER, facts, 3.0)
        assert server.ask("HMGET", "{bridge}:node:n1", "facts", "incarnation", "lease") == (
            b"*3\r\n$11\r\n%b\r\n$3\r\naaa\r\n$4\r\n3000\r\n" % facts
        )
    assert server.ask("ZCARD", "{bridge}:nodes") == b":1\r\n"


async def test_a_finished_call_leaves_no_key_without_an_end(server: Server, open_store: Opener) -> None:
    node = await open_store(retention_s=0.05)
    for call in range(30):
        await live_and_die(node, f"{call}")

    async def only_the_list_is_left() -> bool:
        return server.ask("KEYS", "*") == b"*1\r\n$14\r\n{bridge}:calls\r\n"

    async with asyncio.timeout(10):
        while not await only_the_list_is_left():
            await asyncio.sleep(0.01)
    # Each release takes two old entries out of it, from where the last one stopped, and begins again at its end.
    async with asyncio.timeout(10):
        for call in count(30):
            node.store.release(Release(ConversationId(f"conv_{call}"), (CallId(f"call_{call}"),), OWNER))
            if server.ask("KEYS", "*") == b"*0\r\n":
                break
            await asyncio.sleep(0.01)


async def test_the_list_forgets_only_calls_that_are_gone(server: Server, open_store: Opener) -> None:
    node = await open_store(retention_s=0.05)
    await node.write(commit(1, conversation="conv_lives", call="call_lives", created_ms=1))
    for round_ in range(3):
        for call in range(20):
            await live_and_die(node, f"{round_}_{call}", created_ms=2 + call)
        await asyncio.sleep(0.12)  # two batches of releases
    node.store.release(Release(CONVERSATION, (CALL,), OWNER))
    await node.store.close()
    reader = await open_store()
    assert await reader.store.list_calls(before=None, limit=100) == [(1, "call_lives", None)]
    entries = server.ask("ZRANGE", "{bridge}:calls", "0", "-1")
    assert b"call_lives" in entries
    assert int(entries[1 : entries.index(b"\r")]) < 61
