"""A Redis under Sentinels fails over while calls are up: nothing is lost without being told anew, nothing comes back to life.

Real servers, real Sentinels. What is lost is lost on purpose: replicas are cut off first, and the primary killed then.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.calls.facts import CallId
from bridge.engine.commit import Claim, Commit
from bridge.engine.inputs import Committed, StoreAway, StoreBack, StoreReplaced
from bridge.errors import StartError
from bridge.store import connection, redis
from bridge.store.redis import RedisStore
from tests.store.carried import Carried
from tests.store.servers import Server
from tests.store.test_connection import certified, free_port
from tests.store.writes import CALL, CONVERSATION, Inbox, Node, commit
from tests.support.redis import RedisServer
from tests.support.sentinel import NAME, Sentinel, SentinelRedis, role
from tests.support.waiting import until, until_awaited

CLAIM = Claim("key-1", "fingerprint", CALL, b"{}")


@pytest.fixture
async def watched(directory: Path) -> AsyncIterator[SentinelRedis]:
    async with SentinelRedis(directory, sentinels=1) as store:
        yield store


async def open_node(url: str, unreplicated: Callable[[str], None] = lambda what: None) -> Node:
    inbox = Inbox()
    store = RedisStore(url, give=inbox.give, unreplicated=unreplicated)
    await store.open()
    return Node(store, inbox)


async def make_calls(node: Carried, until_done: asyncio.Task[object]) -> list[str]:
    """Calls that come, are answered and end, for as long as something else lasts; every second one stays up."""
    names: list[str] = []
    while not until_done.done():
        names.append(await node.call_in())
        if len(names) % 2:
            node.bye(names[-1])
    await until_done
    return names


def tell_everything_once_in_order(node: Carried, calls: int) -> None:
    """Each event of each call is delivered, in order; a repetition has the same id. `calls`: how many were answered."""
    heard = node.heard()
    assert sum("call.answered" in dict(rows).values() for rows in heard.values()) == calls
    for call, rows in heard.items():
        carried = node.node.call(call)
        last = carried.sequence if carried is not None else rows[-1][0]
        assert [sequence for sequence, _ in rows] == list(range(1, last + 1))
        assert carried is not None or rows[-1][1] == "call.ended"
    named = {(each.call, each.sequence, each.event_id) for each in node.attempts}
    assert len(named) == len({(call, sequence) for call, sequence, _ in named})


class TestCallsGoOn:
    async def test_over_a_failover_as_ordered(self, directory: Path) -> None:
        async with SentinelRedis(directory) as store, Carried(store.url) as node:
            await node.call_in()
            names = await make_calls(node, asyncio.ensure_future(store.fail_over()))
            names.append(await node.call_in())
            await node.is_settled()
            assert StoreBack() in node.told
            await node.agree()
            tell_everything_once_in_order(node, len(names) + 1)

    async def test_over_the_death_of_the_primary(self, directory: Path) -> None:
        async with SentinelRedis(directory) as store, Carried(store.url) as node:
            await node.call_in()
            dies = asyncio.ensure_future(store.until_promoted(store.kill_primary()))
            names = await make_calls(node, dies)
            names.append(await node.call_in())
            await node.is_settled()
            await node.agree()
            tell_everything_once_in_order(node, len(names) + 1)

    async def test_though_the_last_writes_are_lost(self, watched: SentinelRedis) -> None:
        async with Carried(watched.url) as node:
            kept, ending, ringing = [await node.call_in() for _ in range(3)]
            await node.is_settled()
            watched.cut_off_replicas()
            lost = await node.call_in()  # whose record dies with the primary
            node.bye(ending)  # whose end does
            await node.passes(lambda: node.node.carried == 3, "it is over")
            node.accepting = False  # whose last events are not delivered yet
            node.bye(ringing)
            await node.is_settled()
            before = {call.id for call in node.node.calls()}
            assert len(before) == 3  # `ringing` has ended too, but its events are under way
            await watched.lose_primary()
            await node.passes(lambda: node.told[-1:] == [StoreBack()], "the store is back")
            await node.is_settled()
            assert {call.id for call in node.node.calls()} == before
            await node.agree()
            node.accepting = True
            node.advance(60.0)
            for name in (kept, lost):
                node.bye(name)
            await node.is_settled()
            await node.passes(lambda: node.node.carried == 0, "every call is over")
            tell_everything_once_in_order(node, 4)


class TestWhichServer:
    async def test_one_that_hangs_is_left_as_soon_as_another_has_its_place(
        self, watched: SentinelRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "LOST_AFTER_S", 60.0)
        node = await open_node(watched.url)
        await node.write(commit(1))
        await watched.until_in_step()
        old = watched.primary
        old.pause()
        node.store.commit(commit(2, ticket=2))
        await watched.until_promoted(old)
        await node.inbox.holds(Committed(2))
        old.go_on()  # and believes to be the primary until a Sentinel tells it better
        assert await node.write(commit(3)) == "applied"
        (stored,) = await node.store.claim_predecessors("n1:heir", "zzz")
        assert stored.version == 3
        await until(lambda: role(old) == "slave", "the old primary is told")
        assert watched.primary is not old
        await node.store.close()

    async def test_one_that_was_demoted_is_not_written_to(
        self, make_server: Callable[..., Server], directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis, "OPEN_PATIENCE_S", 0.5)
        port = free_port()
        server = make_server("--port", str(port), "--bind", "127.0.0.1")
        other = RedisServer(directory / "other", options=("--repl-diskless-sync-delay", "0"))
        await other.start()
        node = await open_node(f"redis://127.0.0.1:{port}/0")
        await node.write(commit(1))
        server.ask("REPLICAOF", "127.0.0.1", str(other.port))
        await node.inbox.holds(StoreAway())  # an idle connection finds out too
        node.store.commit(commit(2, ticket=2))
        node.store.commit(commit(3, ticket=3))
        with pytest.raises(StartError, match=r"is a replica of 127\.0\.0\.1"):
            await RedisStore(f"redis://127.0.0.1:{port}/0", give=Inbox().give).open()
        assert Committed(2) not in node.inbox.inputs
        server.ask("REPLICAOF", "NO", "ONE")
        await node.inbox.holds(StoreBack())
        assert len(node.inbox.answers()) == 3  # and what it has lost it says so: the other one was empty
        await node.store.close()
        other.kill()

    async def test_another_history_is_told_of_without_an_outage(self, make_server: Callable[..., Server]) -> None:
        server = make_server("--enable-debug-command", "yes")
        node = await open_node(server.url)
        server.ask("DEBUG", "CHANGE-REPL-ID")
        await node.inbox.holds(StoreReplaced())
        assert StoreAway() not in node.inbox.inputs
        await node.store.close()

    async def test_a_user_that_may_not_ask_for_it_is_served(
        self, make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, seconds in (("WATCH_S", 0.02), ("IDLE_S", 0.05)):
            monkeypatch.setattr(connection, name, seconds)
        port = free_port()
        server = make_server("--port", str(port), "--bind", "127.0.0.1")
        server.ask("ACL", "SETUSER", "bridge", "on", ">secret", "~{bridge}:*", "+@all", "-info")
        inbox = Inbox()
        store = RedisStore(f"redis://bridge:secret@127.0.0.1:{port}/0", give=inbox.give, away_after_s=0.2)
        await store.open()
        server.ask("ACL", "LOG", "RESET")
        await until(lambda: b"info" in server.ask("ACL", "LOG"), "it is asked who it is once more, and does not say")
        assert await Node(store, inbox).write(commit(1)) == "applied"
        assert StoreAway() not in inbox.inputs
        server.signal(signal.SIGSTOP)
        store.commit(commit(2, ticket=2))
        await inbox.holds(StoreAway())
        server.signal(signal.SIGCONT)
        await inbox.holds(Committed(2), StoreBack())
        await store.close()

    async def test_a_name_that_no_sentinel_knows_stops_the_start(self, watched: SentinelRedis) -> None:
        url = watched.url.replace(f"/{NAME}/", "/other/")
        with pytest.raises(StartError, match=r"refuses us: no Sentinel knows 'other': No such master"):
            await RedisStore(url, give=Inbox().give).open()

    async def test_sentinels_and_servers_have_credentials_of_their_own(self, directory: Path) -> None:
        server = RedisServer(directory / "redis", options=("--requirepass", "s3cret"))
        await server.start()
        options = (f"sentinel auth-pass {NAME} s3cret", "requirepass w@tch")
        sentinel = Sentinel(directory / "sentinel", server.port, 1, options)
        sentinel.start()
        place = f"127.0.0.1:{sentinel.port}/{NAME}"
        node = await open_node(f"redis+sentinel://:s3cret@{place}?sentinel_password=w%40tch")
        assert await node.write(commit(1)) == "applied"
        await node.store.close()
        with pytest.raises(StartError, match="refuses us") as raised:
            await RedisStore(f"redis+sentinel://:s3cret@{place}?sentinel_password=wrong", give=Inbox().give).open()
        assert "s3cret" not in str(raised.value)
        sentinel.kill()
        server.kill()

    async def test_all_of_them_may_speak_tls(self, make_server: Callable[..., Server], directory: Path) -> None:
        certificate, options = certified(directory)
        port = free_port()
        make_server("--tls-port", str(port), *(word for name, value in options for word in (f"--{name}", value)))
        sentinel = Sentinel(directory / "sentinel", port, 1, [f"{name} {value}" for name, value in options], tls=True)
        sentinel.start()
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/{NAME}?ssl_ca_certs={certificate}"
        node = await open_node(url)
        assert await node.write(commit(1)) == "applied"
        assert await node.store.conversation(CONVERSATION) is not None
        await node.store.close()
        sentinel.kill()


class TestReplicas:
    async def test_a_claimed_key_waits_for_one(self, watched: SentinelRedis) -> None:
        told: list[str] = []
        node = await open_node(watched.url, told.append)
        watched.cut_off_replicas()
        for version, claim in ((1, CLAIM), (2, None)):
            node.store.commit(commit(version, claim=claim, ticket=version))
        other = commit(1, conversation="conv_b", call="call_b", ticket=3)
        node.store.commit(other)
        await node.inbox.holds(Committed(3))
        await until(lambda: "origination" in told, "a wait was in vain")
        assert node.inbox.answers() == [Committed(3)]  # nobody is called, and nobody else waits for it
        watched.join_replicas()
        await node.inbox.holds(Committed(1), Committed(2))
        assert node.inbox.answers()[1:] == [Committed(1), Committed(2)]
        await node.store.close()

    async def test_one_that_a_failover_would_have_lost_is_written_again_before_it_counts(
        self, watched: SentinelRedis
    ) -> None:
        node = await open_node(watched.url)
        watched.cut_off_replicas()
        node.store.commit(commit(1, claim=CLAIM, ticket=1))
        await until(
            lambda: watched.primary.ask("EXISTS", f"{{bridge}}:conv:{CONVERSATION}") == b":1\r\n", "it is written"
        )
        new = await watched.lose_primary()
        assert node.inbox.answers() == []
        (old,) = watched.replicas
        await old.start()
        await node.inbox.holds(Committed(1))
        assert new.ask("EXISTS", f"{{bridge}}:conv:{CONVERSATION}", f"{{bridge}}:idem:{CLAIM.key}") == b":2\r\n"
        remembered = await node.store.remembered(CLAIM.key)
        assert remembered is not None
        assert remembered.call == CALL
        await node.store.close()

    async def test_a_key_that_is_another_calls_is_refused_at_once(self, watched: SentinelRedis) -> None:
        node = await open_node(watched.url)
        await node.write(commit(1, claim=CLAIM))
        watched.cut_off_replicas()
        theirs = Claim(CLAIM.key, "fingerprint", CallId("call_b"), b"{}")
        assert await node.write(commit(1, conversation="conv_b", call="call_b", claim=theirs)) == "claimed"
        await node.store.close()

    async def test_without_any_replica_nobody_waits(self, directory: Path) -> None:
        async with SentinelRedis(directory, replicas=0, sentinels=1) as store:
            told: list[str] = []
            node = await open_node(store.url, told.append)
            assert await node.write(commit(1, claim=CLAIM)) == "applied"
            assert told == []
            await node.store.close()

    async def test_a_claim_is_made_without_one_and_counted(self, watched: SentinelRedis) -> None:
        told: list[str] = []
        node = await open_node(watched.url, told.append)
        await node.write(commit(1))

        async def is_acknowledged() -> bool:
            told.clear()  # a machine that is too busy for a replica to answer in time tells of it, rightly
            assert len(await node.store.claim_predecessors("n1:second", "second")) == 1
            return told == []

        await until_awaited(is_acknowledged, "a replica has the claim in time")
        watched.cut_off_replicas()
        assert len(await node.store.claim_predecessors("n1:third", "third")) == 1
        assert told == ["claim"]
        await node.store.close()


class TestHigherWins:
    """After a failover that lost a claim, whoever holds the higher pair writes again, and the other lets go."""

    @pytest.mark.parametrize("loser", ["the store's", "ours"])
    async def test_whatever_the_store_says_at_the_moment(self, watched: SentinelRedis, loser: str) -> None:
        first, second = await open_node(watched.url), await open_node(watched.url)
        await first.write(commit(1))
        await watched.until_in_step()
        assert watched.primary.ask("WAIT", "1", "1000") is not None
        watched.cut_off_replicas()
        claims = commit(2, epoch=2, nonce="b", owner="n2:bbb", whole=True)
        await second.write(claims)
        await watched.lose_primary()
        for node in (first, second):
            await node.inbox.holds(StoreBack())
        if loser == "the store's":
            # What another has done meanwhile is less than ours.
            assert await first.write(commit(2)) == "applied"
            assert await self._audit(second, claims) == "applied"
            assert await first.write(commit(3)) == "lost"
        else:
            assert await first.write(commit(2, epoch=3, whole=True)) == "applied"
            assert await self._audit(second, claims) == "lost"
        for node in (first, second):
            await node.store.close()

    @staticmethod
    async def _audit(node: Node, held: Commit) -> str:
        """What the engine does: write the next version, and where the store is older, everything, one epoch higher."""
        following = commit(held.version + 1, epoch=held.epoch, nonce=held.nonce, owner=held.owner)
        outcome = await node.write(following)
        if outcome != "stale":
            return outcome
        whole = commit(held.version + 2, epoch=held.epoch, nonce=held.nonce, owner=held.owner, whole=True)
        return await node.write(whole)
