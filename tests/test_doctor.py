"""What the doctor makes of what it sees: each finding says what is so, and a bad one what to do."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from bridge import doctor
from bridge.ambient import SystemClock
from bridge.config import Config, Listener
from bridge.doctor import (
    Finding,
    Verdict,
    endpoints,
    examine,
    is_served,
    judge_store,
    look_at_addresses,
    look_at_certificates,
    look_at_data_dir,
    look_at_descriptors,
    look_at_endpoint,
    look_at_listener,
    look_at_media_ports,
    look_at_store,
    look_at_web_ports,
)
from bridge.net.certificates import Pair
from tests.support.certificates import Authority
from tests.support.programs import PORTS
from tests.support.redis_cluster import SLOT, ClusterRedis
from tests.support.sentinel import SentinelRedis
from tests.support.waiting import until

FINE, WARNING, FAILURE = Verdict.FINE, Verdict.WARNING, Verdict.FAILURE
GOOD_STORE = {
    "software": "valkey",
    "version": "9.1.2",
    "role": "master",
    "replicas": "0",
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "min-replicas-to-write": "0",
}

WATCHED = {
    "replicas": "1",
    "min-replicas-to-write": "1",
    "discovery": "sentinel",
    "sentinels": "3",
    "sentinels-answering": "3",
    "sentinels-known": "3",
    "sentinel-quorum": "ok",
    "sentinel-replicas": "1",
}
CLUSTERED = {
    "replicas": "1",
    "min-replicas-to-write": "1",
    "discovery": "cluster",
    "cluster-state": "ok",
    "cluster-slot": "3821",
    "cluster-slot-owner": "10.0.0.1:6379",
    "cluster-slot-replicas": "1",
}


def config(**sections: object) -> Config:
    return Config.model_validate(sections)


def worst(findings: Iterable[Finding]) -> Finding:
    return max(findings, key=lambda finding: [FINE, WARNING, FAILURE].index(finding.verdict))


class TestStore:
    @pytest.mark.parametrize(
        ("changed", "verdict", "said"),
        [
            ({}, FINE, ""),
            ({"version": "6.0.16"}, WARNING, "older than anything"),
            ({"maxmemory-policy": "allkeys-lru"}, FAILURE, "Set noeviction"),
            ({"appendonly": "no"}, WARNING, "Set appendonly yes"),
            ({"role": "slave"}, FAILURE, "give the primary"),
            ({"replicas": "1"}, WARNING, "min-replicas-to-write is 0"),
            ({"replicas": "1", "min-replicas-to-write": "1"}, FINE, ""),
            ({"maxmemory-policy": "unknown"}, WARNING, "make sure that it is noeviction"),
            (WATCHED, FINE, ""),
            ({**WATCHED, "sentinels-answering": "2"}, WARNING, "2 of 3 Sentinels answer: start the others"),
            ({**WATCHED, "sentinel-quorum": "NOQUORUM 1 usable"}, FAILURE, "cannot decide on a failover: NOQUORUM"),
            ({**WATCHED, "sentinels-known": "1"}, WARNING, "Run three"),
            ({**WATCHED, "sentinel-replicas": "0"}, WARNING, "know no replica"),
            ({**WATCHED, "min-replicas-to-write": "0"}, WARNING, "min-replicas-to-write is 0"),
            (CLUSTERED, FINE, ""),
            ({**CLUSTERED, "cluster-state": "fail"}, FAILURE, "state of the cluster is fail"),
            ({**CLUSTERED, "cluster-slot-replicas": "0"}, WARNING, "no replica: nobody takes its place"),
        ],
    )
    def test_its_own_facts_are_judged(self, changed: dict[str, str], verdict: Verdict, said: str) -> None:
        found = worst(judge_store({**GOOD_STORE, **changed}))
        assert found.verdict is verdict
        assert said in found.text

    async def test_one_that_refuses_us_is_a_failure_and_its_password_is_not_shown(self) -> None:
        hung_up = asyncio.Event()

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(4096):
                writer.write(b"-WRONGPASS invalid username-password pair\r\n")
            writer.close()
            hung_up.set()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        (found,) = await look_at_store(config(store={"url": f"redis://:hunter2@127.0.0.1:{port}/0"}))
        await hung_up.wait()
        server.close()
        assert found.verdict is FAILURE
        assert "WRONGPASS" in found.text
        assert "hunter2" not in found.text

    async def test_sentinels_are_asked_too(self, tmp_path: Path) -> None:
        async with SentinelRedis(tmp_path) as store:
            said = [found.text for found in await look_at_store(config(store={"url": store.url}))]
            assert "3 of 3 Sentinels answer, and can decide on a failover; replicas: 1" in said
            assert "min-replicas-to-write is 0: a failover can lose the last writes. Set 1" in said
            for sentinel in store.sentinels[1:]:
                sentinel.kill()
            await until(lambda: store.sentinels[0].ask("SENTINEL", "CKQUORUM", "bridge") is None, "it is alone")
            found = worst(await look_at_store(config(store={"url": store.url})))
            assert found.verdict is FAILURE
            assert "1 of 3 Sentinels answer, and cannot decide on a failover: NOQUORUM" in found.text

    async def test_a_cluster_is_asked_too(self, tmp_path: Path) -> None:
        async with ClusterRedis(tmp_path) as store:
            said = [found.text for found in await look_at_store(config(store={"url": store.url}))]
            assert f"127.0.0.1:{store.owner.port} has slot {SLOT}, where all keys are; replicas: 1" in said

    async def test_memory_is_warned_of(self) -> None:
        (found,) = await look_at_store(config(store={"url": "memory://"}))
        assert found.verdict is WARNING


class TestPorts:
    def test_a_taken_web_port_is_a_failure(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            (found,) = look_at_web_ports(config(api={"listen": address}))
        assert found == doctor.failure("api.listen", f"{address}: EADDRINUSE: Address already in use")

    def test_taken_media_ports_are_counted(self) -> None:
        first = PORTS.block(4)
        ports = f"{first}-{first + 3}"
        wanted = config(sip={"listen": "udp:127.0.0.1:5060"}, media={"ports": ports})
        assert worst(look_at_media_ports(wanted)).verdict is FINE
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", first + 1))
            (found,) = look_at_media_ports(wanted)
        assert found == doctor.warning(
            "media.ports", f"{ports}: room for 2 calls, but 1 ports are taken, {first + 1} the first of them"
        )

    def test_too_few_descriptors_are_warned_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = config(media={"ports": "20000-20999", "workers": 2})
        monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 628))
        assert worst(look_at_descriptors(wanted)).verdict is FINE
        monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 627))
        found = worst(look_at_descriptors(wanted))
        assert found.verdict is WARNING
        assert "ulimit -Hn 628" in found.text

    def test_so_are_too_few_for_the_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listen = ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060", "tcp:[::]:5060"]
        wanted = config(media={"ports": "20000-20009"}, sip={"listen": listen}, limits={"max_connections": 1000})
        monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 2128))
        assert worst(look_at_descriptors(wanted)).verdict is FINE
        monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 2127))
        found = worst(look_at_descriptors(wanted))
        assert (found.verdict, found.subject) == (WARNING, "limits.max_connections")
        assert "ulimit -Hn 2128" in found.text

    async def test_a_listener_of_each_kind_is_tried(self) -> None:
        port = PORTS.one()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            listen = (f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}")
            found = [await look_at_listener(Listener(uri=uri)) for uri in listen]
        assert [each.verdict for each in found] == [FINE, FAILURE]
        assert "ss -ltnp" in found[1].text
        assert (await look_at_listener(Listener(uri=listen[1]))).verdict is FINE


class TestAddresses:
    @pytest.mark.parametrize(
        ("sip", "verdict", "said"),
        [
            ({"listen": "udp:127.0.0.1:5060"}, FINE, "phones will be told 127.0.0.1"),
            ({"advertise": "127.0.0.1"}, WARNING, "no other host can reach it"),
            ({"advertise": "192.0.2.10"}, FINE, "must forward our ports unchanged"),
            ({"advertise": "no.such.host.invalid"}, FAILURE, "cannot be resolved"),
            (
                {"advertise": "localhost", "listen": "udp:127.0.0.1:5060"},
                WARNING,
                "give the IP address that SDP shall carry",
            ),
        ],
    )
    def test_what_phones_are_told_is_judged(self, sip: dict[str, str], verdict: Verdict, said: str) -> None:
        found = worst(look_at_addresses(config(sip=sip)))
        assert found.verdict is verdict
        assert said in found.text


class TestCertificates:
    def look(self, authority: Authority, *pairs: Pair, now: float | None = None, **sip: object) -> list[Finding]:
        first, *more = pairs
        tls = {
            "certificate": str(first.certificate),
            "key": str(first.key),
            "certificates": [{"certificate": str(each.certificate), "key": str(each.key)} for each in more],
        }
        at = SystemClock().now() if now is None else now
        found = config(sip={"listen": ["tls:127.0.0.1:0"], "tls": tls, **sip})
        return list(look_at_certificates(found, now=at))

    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    def test_without_tls_there_is_nothing_to_see(self) -> None:
        assert list(look_at_certificates(config(), now=0.0)) == []

    def test_good_ones_are_named(self, authority: Authority) -> None:
        pairs = authority.pair(dns=["a.example"]), authority.pair(dns=["b.example"])
        found = self.look(authority, *pairs, domains=["b.example"])
        assert [each.verdict for each in found] == [FINE, FINE]
        assert [each.subject for each in found] == ["sip.tls.certificate", "sip.tls.certificates[0].certificate"]
        assert found[0].text.startswith("for a.example; until 20")

    @pytest.mark.parametrize(
        ("days", "verdict", "said"),
        [(-1, FAILURE, "it has expired"), (3, WARNING, "it expires in 2 days"), (15, FINE, "until")],
    )
    def test_how_long_it_is_good(self, authority: Authority, days: int, verdict: Verdict, said: str) -> None:
        (found,) = self.look(authority, authority.pair(dns=["a.example"], expires_in=timedelta(days=days)))
        assert found.verdict is verdict
        assert said in found.text

    def test_one_of_tomorrow(self, authority: Authority) -> None:
        (found,) = self.look(authority, authority.pair(), now=SystemClock().now() - 10 * 86_400)
        assert found.verdict is FAILURE
        assert "look at this host's clock" in found.text

    def test_one_that_stands_for_none_of_our_domains(self, authority: Authority) -> None:
        found = worst(self.look(authority, authority.pair(dns=["*.example.com"]), domains=["example.com"]))
        assert (found.verdict, found.subject) == (WARNING, "sip.domains")

    def test_files_that_do_not_fit(self, authority: Authority) -> None:
        pair = Pair(authority.pair().certificate, authority.pair().key)
        (found,) = self.look(authority, pair)
        assert (found.verdict, found.subject) == (FAILURE, "sip.tls.key")


class TestEndpoints:
    def test_every_url_is_looked_at(self) -> None:
        hooks = [
            {"id": "a", "url": "http://a/", "fallback_url": "http://b/", "decision": True},
            {"id": "c", "url": "https://c/"},
        ]
        given = config(webhooks={"url": "http://d/"}, applications=[{"name": "desk", "webhooks": hooks}])
        assert dict(endpoints(given)) == {
            "desk.a": "http://a/",
            "desk.a.fallback_url": "http://b/",
            "desk.c": "https://c/",
            "default.default": "http://d/",
        }

    async def test_one_that_accepts_is_fine_and_hears_nothing(self) -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/calls"
        assert (await look_at_endpoint("default.default", url)).verdict is FINE
        assert await heard == b""
        server.close()

    async def test_one_that_is_down_is_a_warning(self) -> None:
        url = f"http://127.0.0.1:{PORTS.one()}/calls"
        found = await look_at_endpoint("default.default", url)
        assert found.verdict is WARNING
        assert "start the application" in found.text


def test_a_directory_that_cannot_be_written_is_a_failure_for_the_embedded_store_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "data")
    assert worst(look_at_data_dir(config(data_dir=place))).verdict is FAILURE
    assert worst(look_at_data_dir(config(data_dir=place, store={"url": "redis://h"}))).verdict is WARNING
    assert worst(look_at_data_dir(config(data_dir=str(tmp_path / "new")))).verdict is FINE


async def test_a_running_bridge_excuses_taken_ports() -> None:
    async def live(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(live, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    given = config(api={"listen": f"127.0.0.1:{port}"}, store={"url": "memory://"}, media={"ports": "20000-20009"})
    assert await is_served(given.api.listen)
    findings = await examine(given)
    server.close()
    assert not await is_served(given.api.listen)
    assert {finding.subject for finding in findings} >= {"api.listen", "store.url", "data_dir"}
    assert worst(findings).verdict is WARNING
