"""The chart's pod in the image: the arguments, files, secrets and variables that Kubernetes would give it, against a real Redis."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.packaging.chart import Rendered
from tests.packaging.image import Container, Image
from tests.support.programs import Program, find_program, tail
from tests.support.waiting import until

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("image"), pytest.mark.timeout(240)]

# A Unix socket, for the pod's network is its own.
VALUES = {
    "redis": {"url": "unix:///run/redis/redis.sock"},
    "apiKeys": [{"name": "ops", "scopes": ["control"], "value": "the key of the operators"}],
    "config": {"webhooks": {"url": "http://127.0.0.1:3000/calls"}},
    "extraVolumes": [{"name": "redis", "hostPath": {"path": "/run/redis"}}],
    "extraVolumeMounts": [{"name": "redis", "mountPath": "/run/redis", "readOnly": True}],
}
# What the kubelet does with httpGet.
GET = "import sys, urllib.request as r; print(r.urlopen(f'http://127.0.0.1:{sys.argv[1]}{sys.argv[2]}', timeout=5).status)"


def open_to_the_group(directory: Path, files: dict[str, str], mode: int) -> Path:
    """A volume as the kubelet makes it: its files belong to fsGroup."""
    directory.mkdir(mode=0o755)
    for name, content in files.items():
        path = directory / name
        path.write_text(content, encoding="utf-8")
        os.chown(path, 0, 10001)
        path.chmod(mode)
    return directory


async def test_it_is_ready_and_stays_so_without_its_store(image: Image, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(VALUES), encoding="utf-8")
    rendered = Rendered("--values", tmp_path / "values.yaml")
    pod = f"{rendered.name}-0"
    environ = rendered.environ(pod, {"status.hostIP": "127.0.0.1", "status.podIP": "127.0.0.1"})
    redis = tmp_path / "redis"
    redis.mkdir()
    mounts = {
        "/etc/sip-bridge/config": open_to_the_group(tmp_path / "config", {f"{pod}.yaml": rendered.files[pod]}, 0o644),
        "/etc/sip-bridge/secrets": open_to_the_group(tmp_path / "secrets", rendered.secret_files({}), 0o440),
        "/run/redis": redis,
    }
    assert mounts.keys() | {"/data", "/tmp"} == {each["mountPath"] for each in rendered.container["volumeMounts"]}
    socket = ("--port", "0", "--unixsocket", str(redis / "redis.sock"), "--unixsocketperm", "777")
    store = Program(
        [find_program("redis-server"), "--dir", str(tmp_path), "--save", "", *socket], output=tmp_path / "store"
    )
    with store:
        await until((redis / "redis.sock").exists, lambda: tail(tmp_path / "store"))
        container = Container(
            image,
            output=tmp_path / "said",
            arguments=[each.replace("$(BRIDGE_NODE_ID)", pod) for each in rendered.container["args"]],
            mounts=mounts,
            **environ,
        )
        with container.program:
            said = container.program.said

            def answers(probe: str) -> bool:
                asked = rendered.container[probe]["httpGet"]
                (port,) = [each for each in rendered.container["ports"] if each["name"] == asked["port"]]
                return container.execute("python", "-c", GET, str(port["containerPort"]), asked["path"]) == 0

            await until(lambda: '"event":"ready"' in said(), said)
            assert f'"node":"{pod}:' in said()
            assert all(answers(each) for each in ("startupProbe", "livenessProbe", "readinessProbe"))
            store.kill()
            await until(lambda: '"event":"store_away"' in said(), said)
            assert all(answers(each) for each in ("livenessProbe", "readinessProbe"))
            os.kill(container.pid, signal.SIGTERM)
            assert container.program.wait() == 0, said()
    assert "child_died" not in said()
