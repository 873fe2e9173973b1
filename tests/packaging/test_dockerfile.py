"""What the Dockerfile says: its stages, its user, its entry point, and nothing that hadolint minds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bridge import __version__
from bridge.supervisor import SIGNALLING_STOP_S
from tests.docs.pages import ROOT
from tests.packaging.dockerfile import read_stages
from tests.packaging.image import copy_context

pytestmark = pytest.mark.packaging

DOCKERFILE = ROOT / "Dockerfile"
STAGES = read_stages(DOCKERFILE)
BUILD, FINAL = STAGES
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_stages_stand_on_the_same_slim_base() -> None:
    """The environment's `python` is a link into the base."""
    assert BUILD.base == FINAL.base
    version = re.fullmatch(r"python:(3\.\d+)-slim", FINAL.base)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]


def test_the_image_takes_the_installed_environment_and_nothing_else() -> None:
    assert [each.text for each in FINAL.all("COPY")] == ["--from=build /opt/sip-bridge /opt/sip-bridge"]
    assert not any(re.search(r"apt-get|apk|pip install|curl|wget", each.text) for each in FINAL.all("RUN"))


def test_every_install_is_held_to_the_lock() -> None:
    installs = [each.text for each in BUILD.all("RUN") if "pip install" in each.text or " install --" in each.text]
    assert len(installs) == 2
    assert all("--constraint requirements.lock" in text for text in installs)


def test_it_runs_as_a_number_that_is_not_root() -> None:
    user = re.fullmatch(r"(\d+):(\d+)", FINAL.last("USER").rest)
    assert user is not None
    assert all(int(number) >= 10_000 for number in user.groups())


def test_the_entry_point_is_absolute_and_serves() -> None:
    assert FINAL.last("ENTRYPOINT").words == ["/opt/sip-bridge/bin/sip-bridge"]
    assert FINAL.last("CMD").words == ["serve"]
    assert FINAL.last("ENTRYPOINT").rest.startswith("[")  # a shell in front would swallow the signal
    assert FINAL.last("CMD").rest.startswith("[")


def test_it_is_stopped_by_the_signal_that_the_supervisor_takes() -> None:
    assert FINAL.last("STOPSIGNAL").rest == "SIGTERM"
    assert SIGNALLING_STOP_S < 120  # the grace that the chart gives


def test_what_changes_lies_in_a_volume() -> None:
    assert FINAL.last("VOLUME").words == ["/data"]


def test_it_says_what_it_is() -> None:
    labels = FINAL.last("LABEL").pairs
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]


def test_the_context_is_what_is_copied(tmp_path: Path) -> None:
    copied = {word for each in BUILD.all("COPY") for word in each.words[:-1]}
    copy_context(ROOT, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == copied
    assert not list(tmp_path.rglob("__pycache__"))
