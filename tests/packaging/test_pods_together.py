"""Two pods of the chart with the files and variables that Kubernetes would give them, on one real Redis: do they know each other?"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
import yaml

from tests.packaging.chart import Rendered
from tests.support.pairs import Pair, put_through
from tests.support.programs import PORTS
from tests.support.scene import Scene
from tests.support.waiting import until, until_awaited

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(120)]

CALLS = 10
SECRETS = "/etc/sip-bridge/secrets"


async def test_a_pod_that_ends_hands_its_calls_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Scene(tmp_path) as scene:
        callee = await scene.callee()
        application = await scene.application(put_through(callee))
        url = (await scene.redis()).url
        values = {
            "redis": {"url": url},
            # Each pod has ports of its own there, so that both fit on one machine.
            "network": {"mode": "service-per-pod", "service": {"type": "NodePort"}},
            "ports": {"sip": PORTS.block(2), "mediaFirst": PORTS.block(4 * CALLS), "cluster": PORTS.one()},
            "callsPerPod": CALLS,
            "config": {"webhooks": {"url": application.url}},
        }
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        rendered = Rendered("--values", file)
        for name, content in rendered.secret_files({}).items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        pods = []
        for ordinal, (pod, text) in enumerate(rendered.files.items()):
            config = yaml.safe_load(text.replace(SECRETS, str(tmp_path)))
            # A directory and HTTP ports of its own; all else is as the chart has it.
            for key in ("data_dir", "api", "health"):
                del config[key]
            bridge = await scene.node(application, store=url, config=config)
            bridge.sip_port = values["ports"]["sip"] + ordinal  # type: ignore[index]
            bridge.sip_address = ("127.0.0.1", bridge.sip_port)
            addresses = {"status.hostIP": "127.0.0.1", "status.podIP": f"127.0.0.{2 + ordinal}"}
            for name, value in rendered.environ(pod, addresses).items():
                monkeypatch.setenv(name, value)
            await bridge.start()
            pods.append(bridge)
        stays, ends = pods
        pair = await Pair.up(await scene.caller(ends), callee, "100")
        await pair.joined(application)
        streams = await pair.streams(application)

        async def is_asked_for() -> bool:
            async with stays.rest("POST", f"/v1/calls/{streams[0].call['id']}/mute", json={}) as answer:
                return answer.status == 202

        # In a cluster, `minReadySeconds` is the time that this takes.
        await until_awaited(is_asked_for, "a command at the other pod finds the call")
        ends.program.send(signal.SIGTERM)
        assert await asyncio.to_thread(ends.program.wait, 60.0) == 0
        await until(lambda: all("call.recovered" in stream.types for stream in streams), "both calls go on")
        assert not pair.out.is_over
        assert not pair.into.is_over
        assert (await stays.metrics())["bridge_takeovers_total"] > 0
        assert (await pair.out.bye()).status == 200
        await pair.into.hung_up()
