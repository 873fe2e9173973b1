"""The direction of imports is checked by a machine, and the machine is checked here: each planted violation is caught."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# contract, the file it is planted in (made where it is not there), what is planted
VIOLATIONS = [
    ("Imports point down", "sip/grammar.py", "import bridge.calls.call"),
    ("Imports point down", "calls/facts.py", "import bridge.outbox.queue"),
    ("Imports point down", "sdp/description.py", "import bridge.sip.uri"),
    ("Imports point down", "net/udp.py", "import bridge.store.redis"),
    ("Imports point down", "engine/node.py", "import bridge.webhooks.sender"),
    ("Imports point down", "helpers.py", '"""A room that stands in no plan."""'),
    ("The core is pure", "engine/node.py", "import asyncio"),
    ("The core is pure", "sip/endpoint.py", "from time import monotonic"),
    ("The core is pure", "outbox/queue.py", "import random"),
    ("The core is pure", "calls/call.py", "import pydantic"),
    ("Only the composition roots see the configuration", "store/redis.py", "import bridge.config"),
    ("Only the composition roots see the configuration", "pump.py", "from bridge.settings.values import HostPort"),
    ("The supervisor stays small", "children.py", "import asyncio"),
    ("The supervisor stays small", "store/embedded.py", "import redis"),
]


class Copy:
    """A copy of the package to plant things in."""

    def __init__(self, place: Path) -> None:
        self.place = place
        shutil.copytree(ROOT / "bridge", place / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)

    def lint(self) -> tuple[int, str]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from importlinter.cli import lint_imports_command as c; c(['--no-logo', '--no-cache'])",
            ],
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("planted"))


def test_every_contract_is_kept(copy: Copy) -> None:
    code, said = copy.lint()
    assert code == 0, said


@pytest.mark.parametrize(("contract", "file", "planted"), VIOLATIONS)
def test_a_planted_violation_is_caught(copy: Copy, contract: str, file: str, planted: str) -> None:
    path = copy.place / "bridge" / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{planted}\n")
    try:
        code, said = copy.lint()
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert code == 1, said
    assert f"{contract} BROKEN" in said


def test_each_contract_has_a_violation_here() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {contract for contract, _, _ in VIOLATIONS} == {contract["name"] for contract in contracts}


def test_relative_imports_and_clocks_are_caught_by_ruff(tmp_path: Path) -> None:
    planted = tmp_path / "bridge" / "sip" / "planted.py"
    planted.parent.mkdir(parents=True)
    planted.write_text(
        "import datetime\nimport time\n\nfrom . import uri\n\nNOW = time.time(), datetime.datetime.now(), uri\n"
    )
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
        str(planted),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert said.count("TID251") == 2
    assert "TID252" in said
