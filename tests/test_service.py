"""The signalling process, assembled in this process over the memory store, with a real media worker, a real HTTP endpoint and
callers on real sockets: how it starts, what it undoes, how it ends, and who carries on.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from bridge import supervisor
from bridge.ambient import SystemClock, SystemTokens
from bridge.config import Config
from bridge.engine_settings import node_settings
from bridge.errors import StartError, StoreUnavailable
from bridge.media.client import MediaClient
from bridge.net.udp import UdpListener
from bridge.phone.softphone import Phone
from bridge.pump import Pump
from bridge.service import CRASHED, REPLACED, Service, cancel
from bridge.store.keyspace import Keyspace
from bridge.store.memory import MemoryStore
from bridge.webhooks.sender import Sender
from tests.support.application import SECRET, Application, Event, Reply, actions, answering
from tests.support.caller import Caller
from tests.support.certificates import Authority
from tests.support.programs import PORTS, Program
from tests.support.served import merged
from tests.support.waiting import until, until_awaited

MEDIA_PORTS = 8


class Running:
    """One service, from the start to its exit code."""

    def __init__(self, config: Config, worker: Path, *, node_id: str, store_url: str) -> None:
        self.config = config
        self.service = Service(config, node_id=node_id, store_url=store_url, workers=[worker])
        self.task = asyncio.create_task(self.service.run())

    @property
    def sip_port(self) -> int:
        return self.config.sip.listen[0].address.port

    async def get(self, path: str, *, port: int | None = None) -> tuple[int, str]:
        """Status and body of a GET; status 0 when nobody answers."""
        url = f"http://127.0.0.1:{port or self.config.api.listen.port}{path}"
        try:
            async with ClientSession() as session, session.get(url) as answer:
                return answer.status, await answer.text()
        except ClientConnectionError:
            return 0, ""

    async def ready(self) -> Running:
        """Wait until `/readyz` says 200. What keeps it from starting is raised."""

        async def is_ready() -> bool:
            if self.task.done():
                self.task.result()
            return (await self.get("/readyz"))[0] == 200

        await until_awaited(is_ready, "the service is ready")
        return self

    async def stop(self) -> int:
        """SIGTERM, as the supervisor sends it. The exit code."""
        os.kill(os.getpid(), signal.SIGTERM)
        return await self.ended()

    async def crash(self) -> None:
        """It is gone without a word: nothing is wound down."""
        self.task.cancel()
        await asyncio.wait([self.task])

    async def ended(self) -> int:
        """Wait for the exit code."""
        async with asyncio.timeout(20.0):
            return await self.task


class House:
    """Makes services that share a keyspace and a media worker."""

    def __init__(self, directory: Path, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.worker = directory / "w.sock"
        self.media = f"{(first := PORTS.block(MEDIA_PORTS))}-{first + MEDIA_PORTS - 1}"
        self.keyspace = Keyspace(SystemClock())
        self.announced = 0  # leases taken and renewed
        self._stack = stack
        announce = self.keyspace.announce

        def announcing(*given: Any) -> Any:
            self.announced += 1
            return announce(*given)

        monkeypatch.setattr(self.keyspace, "announce", announcing)
        monkeypatch.setattr("bridge.service.MemoryStore", partial(MemoryStore, keyspace=self.keyspace))

    async def start_worker(self, bind: str = "127.0.0.1") -> None:
        command = [sys.executable, "-m", "bridge.media.worker", "--socket", str(self.worker)]
        program = Program(
            [*command, "--bind", bind, "--ports", self.media, "--cooldown-s", "0"], output=self.directory / "worker"
        )
        self._stack.callback(program.kill)
        await until(self.worker.exists, "the media worker is up")

    async def application(self, reply: Reply = answering, *, up: bool = True) -> Application:
        application = Application(reply)
        self._stack.push_async_callback(application.stop)
        if up:
            await application.start()
        return application

    def config(self, application: Application | None = None, **changes: Any) -> Config:
        webhooks = {"url": application.url, "secrets": [SECRET]} if application else {}
        base = {
            "sip": {"listen": [f"udp:127.0.0.1:{PORTS.one()}"]},
            "media": {"ports": self.media},
            "api": {"listen": f"127.0.0.1:{PORTS.one()}"},
            "webhooks": webhooks,
        }
        return Config.model_validate(merged(base, changes))

    def launch(self, config: Config, *, node_id: str = "n1", store_url: str = "memory://") -> Running:
        """Begin to start one, in a task of its own."""
        running = Running(config, self.worker, node_id=node_id, store_url=store_url)
        self._stack.push_async_callback(running.crash)
        return running

    async def start(self, config: Config, *, node_id: str = "n1") -> Running:
        return await self.launch(config, node_id=node_id).ready()

    async def caller(self, running: Running, port: int | None = None) -> Caller:
        caller = Caller(("127.0.0.1", port or running.sip_port))
        await caller.open()
        self._stack.callback(caller.close)
        return caller


@pytest.fixture
async def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Without a media worker: for what ends before it is wanted."""
    async with AsyncExitStack() as stack:
        yield House(tmp_path, stack, monkeypatch)


@pytest.fixture
async def house(bare: House) -> House:
    await bare.start_worker()
    return bare


def is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind is socket.SOCK_STREAM))
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def counted(text: str, sample: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(sample + " ")).rpartition(" ")[2])


class TestLife:
    async def test_it_starts_carries_a_call_of_our_own_phone_and_stops(self, house: House) -> None:
        application = await house.application()
        running = await house.start(house.config(application))
        before = asyncio.all_tasks()
        phone = Phone("me", clock=SystemClock(), tokens=SystemTokens())
        await phone.open()
        try:
            call = phone.call(f"sip:100@127.0.0.1:{running.sip_port}")
            response = await call.answered()
            assert response is not None
            assert response.status == 200
            assert response.headers.get("Contact") == f"<sip:127.0.0.1:{running.sip_port}>"
            event = await application.event("call.answered")
            await until(lambda: phone.audio.quality.packets_received, "the phone hears the bridge")
            assert (await running.get(f"/v1/calls/{event['data']['call_id']}"))[0] == 200
            _, metrics = await running.get("/metrics")
            assert counted(metrics, 'bridge_calls{direction="inbound",state="answered"}') == 1
            assert await running.stop() == 0
            assert await call.over() == "remote"
            ended = await application.event("call.ended")
            why = ended["data"]["call"]["ended"]
            assert (why["by"], why["reason"]) == ("node", "drained")
            assert ended["data"]["quality"]["packets_received"] > 0
        finally:
            phone.close()
        application.judge()
        assert await running.get("/livez") == (0, "")
        assert is_free(running.sip_port, socket.SOCK_DGRAM)
        assert is_free(running.config.api.listen.port, socket.SOCK_STREAM)
        assert asyncio.all_tasks() <= before

    async def test_the_command_call_calls_it(self, house: House) -> None:
        async def reply(event: Event) -> web.StreamResponse:
            busy = event["data"]["call"]["to"]["user"] == "200"
            return actions({"action": "reject", "code": 486} if busy else "answer")

        application = await house.application(reply)
        running = await house.start(house.config(application))
        for user, code, said in (("100", 0, "ended by us"), ("200", 1, "Refused: 486 Busy Here")):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "call", f"sip:{user}@localhost:{running.sip_port}"),
                *("--seconds", "0.1", "--user", "kim"),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await asyncio.wait_for(process.communicate(), 20.0)
            assert process.returncode == code, output.decode()
            lines = output.decode().splitlines()
            assert lines[0].split() == ["kim", f"localhost:{running.sip_port}"]
            assert "─ INVITE (SDP) ─" in lines[1]
            assert said in lines[-1]
        await application.all_ended(2)
        application.judge()

    async def test_while_it_winds_down_it_is_alive_not_ready_and_takes_nothing_new(self, house: House) -> None:
        taken = asyncio.Event()

        async def slow(event: Event) -> web.StreamResponse:
            if event["type"] == "call.ended":
                await taken.wait()
            return await answering(event)

        application = await house.application(slow)
        running = await house.start(house.config(application))
        caller = await house.caller(running)
        call = caller.call()
        await call.invite()
        await application.event("call.answered")
        stopping = asyncio.create_task(running.stop())
        await call.hung_up()
        assert (await running.get("/livez"))[0] == 200
        assert (await running.get("/readyz"))[0] == 503
        assert (await caller.call().invite()).status == 503
        taken.set()
        assert await stopping == 0

    async def test_port_0_is_any_and_everybody_is_told_which(self, house: House) -> None:
        application = await house.application()
        with capture_logs() as lines:
            running = await house.start(house.config(application, sip={"listen": ["udp:127.0.0.1:0"]}))
        (listening,) = next(line["sip"] for line in lines if line["event"] == "ready")
        port = int(listening.rpartition(":")[2])
        caller = await house.caller(running, port)
        assert (await caller.call().invite())["contact"] == f"<sip:127.0.0.1:{port}>"

    async def test_ipv6_from_end_to_end(self, bare: House) -> None:
        try:
            await bare.start_worker("::1")
            port = PORTS.one()
            application = await bare.application()
            running = await bare.start(bare.config(application, sip={"listen": [f"udp:[::1]:{port}"]}))
        except (OSError, StartError):
            pytest.skip("no IPv6 here")
        phone = Phone("me", clock=SystemClock(), tokens=SystemTokens())
        await phone.open("::1")
        try:
            call = phone.call(f"sip:100@[::1]:{port}")
            response = await call.answered()
            assert response is not None
            assert response.status == 200
            assert response.headers.get("Contact") == f"<sip:[::1]:{port}>"
            assert b"c=IN IP6 ::1\r\n" in response.body
            await until(lambda: phone.audio.quality.packets_received, "the phone hears the bridge")
            held = await call.hold()
            assert held is not None
            assert held.status == 200
            event = await application.event("call.held")
            assert event["data"]["call"]["source"]["address"].startswith("[::1]:")
            async with ClientSession() as session:
                await session.delete(
                    f"http://127.0.0.1:{running.config.api.listen.port}/v1/calls/{event['data']['call_id']}"
                )
            assert await call.over() == "remote"  # the bridge's own request has found the way too
            ended = await application.event("call.ended")
            assert ended["data"]["quality"]["packets_received"] > 0
        finally:
            phone.close()
        application.judge()


class TestCannotStart:
    async def test_a_taken_sip_port_is_named_and_the_process_that_has_it_goes_on(self, house: House) -> None:
        """Started twice by mistake, under one name and on one store: the second must not take what is the first's."""
        application = await house.application()
        first = await house.start(house.config(application))
        caller = await house.caller(first)
        call = caller.call()
        await call.invite()
        await application.event("call.answered")
        second = house.launch(house.config(application, sip={"listen": [f"udp:127.0.0.1:{first.sip_port}"]}))
        with pytest.raises(StartError, match=r"port is taken.*sip\.listen"):
            await second.ended()
        assert is_free(second.config.api.listen.port, socket.SOCK_STREAM)
        renewed = house.announced
        await until(lambda: house.announced > renewed, "the first renews its lease")
        assert not first.task.done()
        assert (await call.bye()).status == 200

    @pytest.mark.parametrize("key", ["api", "health"])
    async def test_a_taken_http_port_is_named_and_no_port_is_kept(self, house: House, key: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            changes: dict[str, Any] = {key: {"listen": f"127.0.0.1:{port}"}}
            config = house.config(**changes)
            running = house.launch(config)
            with pytest.raises(
                StartError,
                match=rf"cannot listen on 127\.0\.0\.1:{port} for HTTP: Address already in use; the key is {key}\.listen",
            ):
                await running.ended()
        assert is_free(running.sip_port, socket.SOCK_DGRAM)
        assert house.announced == 0

    async def test_a_store_that_is_not_there_is_named_and_no_port_is_kept(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refuse(_: object) -> None:
            raise StartError("no store at redis://127.0.0.1:1")

        monkeypatch.setattr(MemoryStore, "open", refuse)
        running = house.launch(house.config())
        with pytest.raises(StartError, match="no store"):
            await running.ended()
        assert is_free(running.sip_port, socket.SOCK_DGRAM)
        assert is_free(running.config.api.listen.port, socket.SOCK_STREAM)

    async def test_a_store_that_goes_away_meanwhile_is_no_crash(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def away(*_: object) -> str:
            raise StoreUnavailable("no answer in 1 s")

        monkeypatch.setattr(MemoryStore, "secret", away)
        with pytest.raises(StartError, match="the store went away while we started: no answer in 1 s"):
            await house.launch(house.config()).ended()

    async def test_what_was_made_is_undone_in_reverse(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        undone: list[str] = []

        def noting(kind: Any, name: str) -> Callable[..., Any]:
            close = kind.close

            def closing(self: Any) -> Any:
                undone.append(name)
                return close(self)

            return closing

        made: list[tuple[type, str]] = [
            (UdpListener, "sip"),
            (MemoryStore, "store"),
            (Sender, "sender"),
            (MediaClient, "media"),
            (Pump, "pump"),
        ]
        for kind, name in made:
            monkeypatch.setattr(kind, "close", noting(kind, name))

        async def broken(*_: object) -> None:
            raise RuntimeError("out of order")

        monkeypatch.setattr(MemoryStore, "claim_predecessors", broken)
        before = asyncio.all_tasks()
        with pytest.raises(RuntimeError, match="out of order"):
            await house.launch(house.config()).ended()
        assert undone == [name for _, name in reversed(made)]
        assert asyncio.all_tasks() <= before


class TestStarting:
    async def test_it_waits_for_its_predecessor_s_calls_alive_but_not_ready_and_can_be_stopped_meanwhile(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = asyncio.Event()

        async def away(*_: object) -> list[Any]:
            asked.set()
            raise StoreUnavailable("away")

        monkeypatch.setattr(MemoryStore, "claim_predecessors", away)
        health = PORTS.one()
        running = house.launch(house.config(health={"listen": f"127.0.0.1:{health}"}))
        await asyncio.wait_for(asked.wait(), 20.0)
        assert (await running.get("/livez", port=health))[0] == 200
        status, body = await running.get("/readyz", port=health)
        assert (status, "not started yet" in body) == (503, True)
        assert await running.get("/readyz") == (0, "")
        assert await running.stop() == 0
        assert is_free(running.sip_port, socket.SOCK_DGRAM)


class TestEndings:
    async def test_replaced_by_a_newer_process_of_its_name_it_goes_without_a_word(self, house: House) -> None:
        application = await house.application(lambda _: _decide("park"))
        old = await house.start(house.config(application))
        caller = await house.caller(old)
        call = caller.call()
        call.begin()
        await until(lambda: [each for each in call.responses if each.status == 180], "it rings")
        with capture_logs() as lines:
            heir = await house.start(house.config(application))
            assert await old.ended() == REPLACED == supervisor.REPLACED
        assert [line["event"] for line in lines if line["log_level"] in ("error", "critical")] == ["replaced"]
        assert {each.status for each in call.responses} == {100, 180}
        (call_id,) = application.streams
        status, body = await heir.get(f"/v1/calls/{call_id}")
        assert (status, '"state":"ringing"' in body, '"recovered":1' in body) == (200, True, True)
        assert counted((await heir.get("/metrics"))[1], "bridge_takeovers_total") == 1
        assert application.count("call.ended") == 0

    async def test_a_background_task_that_dies_is_a_crash_and_no_reason_to_hang_up(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        killed = asyncio.Event()

        async def dies(_: Service) -> None:
            await killed.wait()
            raise RuntimeError("out of order")

        monkeypatch.setattr(Service, "_measure_lag", dies)
        application = await house.application()
        running = await house.start(house.config(application))
        caller = await house.caller(running)
        call = caller.call()
        await call.invite()
        await application.event("call.answered")
        with capture_logs() as lines:
            killed.set()
            assert await running.ended() == CRASHED
        assert [(line["event"], line["task"]) for line in lines if line["log_level"] == "critical"] == [
            ("task_died", "lag")
        ]
        assert call.requests == []

    async def test_so_is_a_listener_that_closes_by_itself(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[UdpListener] = []
        opening = UdpListener.open

        async def noting(listener: UdpListener) -> None:
            made.append(listener)
            await opening(listener)

        monkeypatch.setattr(UdpListener, "open", noting)
        running = await house.start(house.config())
        with capture_logs() as lines:
            made[0].connection_lost(OSError(9, "Bad file descriptor"))
            assert await running.ended() == CRASHED
        assert lines[0]["event"] == "listener_died"


class TestCarryingOn:
    async def test_after_a_crash_the_next_process_finds_the_calls_and_ends_them_as_they_should(
        self, house: House
    ) -> None:
        application = await house.application()
        config = house.config(application)
        first = await house.start(config)
        caller = await house.caller(first)
        call = caller.call()
        await call.invite()
        await application.event("call.answered")
        await first.crash()
        with capture_logs() as lines:
            await house.start(config)
            assert (await call.bye()).status == 200
            ended = await application.event("call.ended")
        assert ended["data"]["call"]["recovered"] == 1
        assert (ended["data"]["call"]["ended"]["by"], ended["data"]["call"]["ended"]["reason"]) == ("remote", "hangup")
        assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
        application.judge()

    async def test_a_200_that_may_not_have_arrived_is_said_again_before_anything_is_heard(self, house: House) -> None:
        application = await house.application()
        config = house.config(application)
        first = await house.start(config)
        caller = await house.caller(first)
        call = caller.call()
        call.acknowledges = False
        ok = await call.invite()
        await first.crash()
        said = len(call.responses)
        with capture_logs() as lines:
            await house.start(config)
            await until(lambda: len(call.responses) > said, "the 200 is said again")
            call.acknowledge(call.responses[-1])
            await application.event("call.answered")
        assert (call.responses[-1].status, call.responses[-1].tag("to")) == (200, ok.tag("to"))
        assert [line for line in lines if line["log_level"] in ("error", "critical")] == []

    async def test_events_that_an_endpoint_has_not_taken_are_delivered_by_the_next_process(self, house: House) -> None:
        application = await house.application()
        config = house.config(application, webhooks={"schedule": [0.0, 0.1]})
        first = await house.start(config)
        caller = await house.caller(first)
        call = caller.call()
        await call.invite()
        await application.event("call.answered")
        await application.stop()
        await call.bye()
        await first.crash()
        await application.start()
        await house.start(config)
        await application.all_ended(1)
        application.judge()


class TestSecrets:
    async def test_without_one_it_is_made_said_once_and_kept(
        self, house: House, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bodies: list[tuple[dict[str, str], bytes]] = []

        async def take(request: web.Request) -> web.Response:
            bodies.append((dict(request.headers), await request.read()))
            return actions({"action": "reject", "code": 486})

        app = web.Application()
        app.router.add_post("/", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        port = PORTS.one()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            config = house.config(webhooks={"url": f"http://127.0.0.1:{port}/"})
            said = []
            with capture_logs() as lines:
                for _ in range(2):
                    running = await house.start(config)
                    caller = await house.caller(running)
                    assert (await caller.call().invite()).status == 486
                    assert await running.stop() == 0
                    said.append(capsys.readouterr().out)
        finally:
            await runner.cleanup()
        secrets = re.findall(r"whsec_[A-Za-z0-9+/=]+", said[0])
        assert len(set(secrets)) == 1
        assert f'Webhook("{secrets[0]}").verify(body, headers)' in said[0]
        assert said[1] == ""
        assert secrets[0] not in repr(lines)
        assert len(bodies) == 4  # incoming and ended, twice
        for headers, body in bodies:
            Webhook(secrets[0]).verify(body, headers)

    async def test_one_that_is_configured_is_not_shown(self, house: House, capsys: pytest.CaptureFixture[str]) -> None:
        with capture_logs():
            running = await house.start(house.config(await house.application()))
            await running.stop()
        assert capsys.readouterr().out == ""


class TestApplications:
    async def test_the_first_that_matches_gets_the_call_and_webhooks_url_the_rest(self, house: House) -> None:
        sales = await house.application(lambda _: _decide({"action": "reject", "code": 486}))
        rest = await house.application(lambda _: _decide({"action": "reject", "code": 603}))
        listed = [
            {
                "name": "sales",
                "match": {"users": ["7*"]},
                "webhooks": [{"id": "sales", "url": sales.url, "decision": True}],
            }
        ]
        running = await house.start(house.config(rest, applications=listed))
        caller = await house.caller(running)
        assert (await caller.call("700").invite()).status == 486
        assert (await caller.call("100").invite()).status == 603
        assert (await sales.event("call.ended"))["data"]["application"] == "sales"
        assert (await rest.event("call.ended"))["data"]["application"] == "default"

    async def test_an_application_that_is_down_leaves_the_call_to_its_fallback(self, house: House) -> None:
        down = await house.application(up=False)
        hook = {"id": "desk", "url": down.url, "decision": True, "secrets": [SECRET]}
        listed = [{"name": "desk", "webhooks": [hook], "fallback": [{"action": "reject", "code": 503}]}]
        running = await house.start(house.config(applications=listed))
        caller = await house.caller(running)
        with capture_logs() as lines:
            assert (await caller.call().invite()).status == 503
            await until(lambda: "Is the application running there?" in repr(lines), "the log says what to do")

    async def test_a_call_that_is_nobody_s_is_404(self, house: House) -> None:
        running = await house.start(house.config())
        caller = await house.caller(running)
        assert (await caller.call().invite()).status == 404


async def _decide(*listed: str | dict[str, Any]) -> web.StreamResponse:
    return actions(*listed)


async def test_a_task_that_takes_its_cancellation_for_a_timeout_is_ended_all_the_same() -> None:
    taken = 0

    async def waits_for_the_store() -> None:
        nonlocal taken
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                taken += 1
                if taken == 3:
                    raise

    task = asyncio.create_task(waits_for_the_store())
    await asyncio.sleep(0)
    await cancel(task)
    assert task.cancelled()
    assert taken == 3


@pytest.mark.parametrize(
    ("sip", "contact", "sent_by"),
    [
        ({}, "<sip:127.0.0.1:5999;transport=tls>", "127.0.0.1:5999"),
        # The port that UDP and TCP are reached at would lead to nobody who speaks TLS.
        ({"advertise": "sip.example.com:5060"}, "<sip:sip.example.com:5999;transport=tls>", "sip.example.com:5999"),
        ({"listener": "sip.example.com:443"}, "<sip:sip.example.com:443;transport=tls>", "sip.example.com:443"),
    ],
)
def test_how_a_listener_of_tls_names_itself(tmp_path: Path, sip: dict[str, str], contact: str, sent_by: str) -> None:
    pair = Authority(tmp_path).pair()
    uri = {"uri": "tls:127.0.0.1:0", "advertise": sip.pop("listener", None)}
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    config = Config.model_validate({"sip": {"listen": [uri], "tls": tls, **sip}})
    bound = UdpListener("tls:127.0.0.1:0", "127.0.0.1", 5999, lambda packet: None)  # not bound: only its address counts
    told = node_settings(config, owner="n1:x", node_id="n1", nonce="n", secret=b"s" * 32, sockets=[bound])
    (named,) = told.listeners.values()
    assert (named.sent_by, named.transport, named.named(secure=False).contact) == (sent_by, "tls", contact)
    assert named.named(secure=True).contact == f"<sips:{sent_by}>"
