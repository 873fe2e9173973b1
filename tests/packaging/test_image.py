"""The Dockerfile's steps, done, and what they made, run: as its user, without capabilities, on a read-only root."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from bridge import __version__
from tests.docs.pages import ROOT
from tests.packaging.image import Container, Image
from tests.support.waiting import until

# One group: the image is built once, by one worker. Its packages come over the network.
pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("image"), pytest.mark.timeout(240)]

HOME = "/opt/sip-bridge"
# A network of its own leads nowhere, so that no address is the outward one.
ADVERTISE = {"BRIDGE_SIP__ADVERTISE": "127.0.0.1"}


def finished(container: Container) -> tuple[int, str]:
    return container.program.wait(), container.program.said()


def test_the_version_is_ours(image: Image, tmp_path: Path) -> None:
    code, said = finished(Container(image, output=tmp_path / "said", arguments=["--version"]))
    assert (code, said) == (0, f"sip-bridge, version {__version__}\n")


def test_the_doctor_finds_nothing_wrong(image: Image, tmp_path: Path) -> None:
    code, said = finished(Container(image, output=tmp_path / "said", arguments=["doctor"], **ADVERTISE))
    assert code == 0, said
    warned = {line.split()[1] for line in said.splitlines() if not line.startswith("ok ")}
    assert warned == {"sip.advertise:", "webhooks.url:"}, said  # what this test has given, and what it has not
    assert "ok    data_dir: /data\n" in said
    assert f"ok    store.url: embedded: {HOME}/" in said


def test_what_is_installed_is_what_the_lock_says(image: Image) -> None:
    root = image.root(len(image.stages) - 1)
    found = image.inside("find", f"{root}{HOME}/lib", "-maxdepth", "3", "-name", "*.dist-info", "-printf", "%f\n")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {_spelled(line.replace("==", "-")) for line in lock.splitlines() if "==" in line}
    installed = {_spelled(name.removesuffix(".dist-info")) for name in found.split()}
    assert installed - pinned == {_spelled(f"sip-bridge-{__version__}")}
    assert not any(name.startswith(("pip-", "setuptools-", "hatchling-")) for name in installed)


def test_every_module_is_compiled(image: Image) -> None:
    """Nothing can be compiled later: the root is read-only."""
    root = image.root(len(image.stages) - 1)

    def count(pattern: str) -> int:
        return len(image.inside("find", f"{root}{HOME}/lib", "-name", pattern).split())

    assert count("*.pyc") == count("*.py") > 0


def _spelled(name: str) -> str:
    return name.lower().replace("_", "-")


async def test_it_serves_is_healthy_and_ends_when_told(image: Image, tmp_path: Path) -> None:
    check = image.final.last("HEALTHCHECK").command
    container = Container(image, output=tmp_path / "said", **ADVERTISE)
    with container.program:
        await until(lambda: '"event":"ready"' in container.program.said(), container.program.said)
        assert container.execute(*check) == 0
        assert container.execute("env", "HEALTHCHECK_PORT=1", *check) != 0
        status = Path(f"/proc/{container.pid}/status").read_text(encoding="utf-8")
        assert "Uid:\t10001\t10001\t10001\t10001\n" in status
        assert "CapEff:\t0000000000000000\n" in status
        assert container.execute("touch", f"{HOME}/lib/written", "/etc/written") != 0
        assert container.execute("touch", "/data/written", "/tmp/written") == 0
        os.kill(container.pid, getattr(signal, image.final.last("STOPSIGNAL").rest))
        assert container.program.wait() == 0, container.program.said()
    events = [json.loads(line)["event"] for line in container.program.said().splitlines()]
    assert "stopped" in events
    assert "child_died" not in events
