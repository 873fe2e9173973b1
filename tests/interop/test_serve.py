"""`sip-bridge serve` as an operator meets it: a clean stop, wrong configuration, ports that are taken."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from tests.support.programs import children_of, is_alive
from tests.support.scene import QUICK_SCHEDULE, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.interop

QUICK = {"webhooks": {"schedule": QUICK_SCHEDULE}}


async def test_sigterm_says_bye_tells_the_end_and_leaves_nothing(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, config=QUICK)
    caller = await scene.caller(bridge)
    calls = [caller.call() for _ in range(10)]
    assert {answer.status for answer in await asyncio.gather(*(call.invite() for call in calls))} == {200}
    ringing = caller.call()
    children = children_of(bridge.pid)
    assert len(children) >= 2

    stopped = asyncio.get_running_loop().run_in_executor(None, bridge.stop)
    for call in calls:
        bye = await call.hung_up()
        assert 'text="drained"' in bye["reason"]
        assert "cause=503" in bye["reason"]
    assert await stopped == 0
    assert not any(is_alive(pid) for pid in children)
    await application.all_ended(10)
    assert application.judge() == {"call.incoming": 10, "call.answered": 10, "call.ended": 10}
    ends = [event["data"]["call"]["ended"] for event in application.events() if event["type"] == "call.ended"]
    assert {(end["by"], end["reason"]) for end in ends} == {("node", "drained")}
    assert not ringing.responses


async def test_a_stop_while_the_application_is_down_keeps_the_events_for_the_next_start(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, config=QUICK)
    call = (await scene.caller(bridge)).call()
    assert (await call.invite()).status == 200
    await application.event("call.answered")
    await application.stop()
    stopped = asyncio.get_running_loop().run_in_executor(None, bridge.stop)
    await call.hung_up()
    assert await stopped == 0
    assert application.open_calls()
    await application.start()
    await bridge.start()
    await application.all_ended(1)
    application.judge()


async def test_two_sigterms_end_it_at_once(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, config=QUICK)
    call = (await scene.caller(bridge)).call()
    assert (await call.invite()).status == 200
    await application.stop()
    program = bridge.program
    program.send(signal.SIGTERM)
    await bridge.says("stopping")
    program.send(signal.SIGTERM)
    await until(lambda: program.code() is not None, "it ends")
    assert bridge.said("stopping")[-1]["forced"] is True


class TestDoesNotStart:
    async def ends(self, scene: Scene, *arguments: str, **config: object) -> tuple[int, str]:
        """The exit code and what stands on standard error."""
        application = await scene.application(up=False)
        bridge = await scene.node(application, store="memory://", config=config)
        program = bridge.launch(*arguments)
        await until(lambda: program.code() is not None, "it ends")
        return program.wait(), bridge.log.read_text()

    async def test_a_wrong_value_is_2_and_names_line_key_and_remedy(self, scene: Scene) -> None:
        code, said = await self.ends(scene, media={"ports": "many"})
        assert code == 2
        assert "media.ports" in said
        assert "bridge.yaml" in said
        assert "20000-20999" in said
        assert "Traceback" not in said

    async def test_a_wrong_key_is_2(self, scene: Scene) -> None:
        code, said = await self.ends(scene, sip={"lisen": ["udp:127.0.0.1:5060"]})
        assert code == 2
        assert "sip.lisen" in said

    async def test_a_wrong_option_is_2(self, scene: Scene) -> None:
        code, said = await self.ends(scene, "--media.timeout_s", "soon")
        assert code == 2
        assert "media.timeout_s" in said

    async def test_a_sip_port_in_use_is_1_and_says_whose(self, scene: Scene) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            code, said = await self.ends(scene, sip={"listen": [f"udp:127.0.0.1:{port}"]})
        assert code == 1
        assert str(port) in said
        assert "sip.listen" in said

    async def test_an_api_port_in_use_is_1(self, scene: Scene) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            code, said = await self.ends(scene, api={"listen": f"127.0.0.1:{port}"})
        assert code == 1
        assert "api.listen" in said

    async def test_a_store_that_is_not_there_is_1(self, scene: Scene) -> None:
        code, said = await self.ends(scene, store={"url": "redis://127.0.0.1:1/0"})
        assert code == 1
        assert "redis://127.0.0.1:1" in said
