"""The process itself, spoken to by hand."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.media.protocol import rule_to_data
from tests.media.conftest import Phone, Wire, WorkerProcess

Start = Callable[..., WorkerProcess]


def greeted(worker: WorkerProcess) -> Wire:
    wire = Wire(worker.path)
    hello = wire.hear()
    assert hello is not None
    assert hello["type"] == "hello"
    wire.say(type="hello", v=1)
    return wire


def test_it_says_who_it_is_and_ends_on_sigterm(start_worker: Start) -> None:
    worker = start_worker()
    hello = Wire(worker.path).hear()
    assert hello is not None
    assert (hello["v"], hello["pid"], hello["ports"], hello["skipped"]) == (1, worker.process.pid, 4, 0)
    assert worker.end() == (0, "")
    assert not Path(worker.path).exists()


def test_ctrl_c_is_for_the_supervisor(start_worker: Start) -> None:
    worker = start_worker()
    worker.signal(signal.SIGINT)
    assert Wire(worker.path).hear() is not None
    assert worker.end()[0] == 0


def test_only_our_own_user_may_speak_to_it(start_worker: Start) -> None:
    assert Path(start_worker().path).stat().st_mode & 0o777 == 0o600


def test_ports_that_are_taken_are_left_out_and_named(start_worker: Start) -> None:
    worker = start_worker()
    worker.kill()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((worker.host, 20002))
        worker.restart()
        hello = _wait_for_hello(worker)
        assert (hello["ports"], hello["skipped"]) == (3, 1)
    assert "1 of 4 port pairs left out, first 20002: Address already in use" in worker.end()[1]


def _wait_for_hello(worker: WorkerProcess) -> dict[str, object]:
    while True:
        assert worker.process.poll() is None
        try:
            hello = Wire(worker.path).hear()
        except (FileNotFoundError, ConnectionRefusedError):
            continue
        assert hello is not None
        return hello


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--ports", "7"), 2, "is no range of ports"),
        (("--ports", "20000-20001", "--bind", "192.0.2.1"), 1, "no port left to serve"),
        (("--ports", "20000-20001", "--socket", "/nowhere/x.sock"), 1, "cannot listen on /nowhere/x.sock"),
    ],
)
def test_what_it_cannot_start_with(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    command = [sys.executable, "-m", "bridge.media.worker", "--socket", str(tmp_path / "x.sock"), *arguments]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == code
    assert said in ended.stderr


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, bridge.media.worker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    foreign = set(loaded) - set(sys.stdlib_module_names) - {"bridge", "__main__"}
    assert {name for name in foreign if not name.startswith(("_", "sitecustomize"))} == set()
    assert "asyncio" not in loaded


def test_commands_may_be_repeated(start_worker: Start, phone: Phone) -> None:
    wire = greeted(start_worker())
    for _ in range(2):
        wire.say(type="open", session="a")
        assert wire.hear() == {"type": "opened", "session": "a", "port": 20000}
    for _ in range(2):
        wire.say(type="rule", session="a", rule=rule_to_data(phone.rule()))
    wire.say(type="close", session="a")
    closed = wire.hear()
    assert closed is not None
    assert closed["quality"] is not None
    wire.say(type="close", session="a")
    assert wire.hear() == {"type": "closed", "session": "a", "quality": None}


def test_nonsense_is_refused_and_the_unknown_ignored(start_worker: Start) -> None:
    wire = greeted(start_worker())
    wire.socket.send(b"\xff\xfe")
    wire.say(type="open", session=["a"])
    wire.say(type="open", session="a", colour="blue")
    wire.say(type="rule", session="a", rule={"latching": "strict"})
    wire.say(type="rule", session="b", rule={})
    wire.say(type="teleport", session="a")
    wire.say(type="list")
    heard = [wire.hear() for _ in range(5)]
    assert [message and message["type"] for message in heard] == ["error", "error", "opened", "error", "listed"]


def test_another_major_version_is_refused(start_worker: Start) -> None:
    worker = start_worker()
    wire = Wire(worker.path)
    wire.hear()
    wire.say(type="hello", v=2)
    assert wire.hear() == {"type": "error", "reason": "version 2 is not understood, only 1"}
    assert wire.hear() is None
    early = Wire(worker.path)
    early.hear()
    early.say(type="open", session="a")
    assert early.hear() == {"type": "error", "reason": "say hello first"}


def test_no_port_is_lent_twice_or_before_it_has_rested(start_worker: Start) -> None:
    wire = greeted(start_worker("--cooldown-s", "60", ports="20000-20003"))
    for session in "abc":
        wire.say(type="open", session=session)
    heard = [wire.hear() for _ in range(3)]
    assert [message and message.get("port") for message in heard] == [20000, 20002, None]
    wire.say(type="close", session="a")
    wire.say(type="open", session="d")
    wire.hear()
    assert wire.hear() == {"type": "no_port", "session": "d"}


def test_a_long_list_comes_in_parts(start_worker: Start) -> None:
    wire = greeted(start_worker(ports="20000-20499"))
    for number in range(250):
        wire.say(type="open", session=str(number))
        wire.hear()
    wire.say(type="list")
    parts = [wire.hear() for _ in range(3)]
    sizes = [(len(part["sessions"]), part["more"]) for part in parts if part]  # type: ignore[arg-type]
    assert sizes == [(100, True), (100, True), (50, False)]


def test_a_newer_connection_replaces_the_older_and_finds_its_sessions(start_worker: Start) -> None:
    worker = start_worker()
    older = greeted(worker)
    older.say(type="open", session="a")
    older.hear()
    newer = greeted(worker)
    assert older.hear() is None
    newer.say(type="list")
    listed = newer.hear()
    assert listed is not None
    assert listed["sessions"] == [{"session": "a", "port": 20000, "rule": None, "timed_out": False}]


def test_left_alone_it_closes_its_orphans_after_the_grace(start_worker: Start, phone: Phone) -> None:
    worker = start_worker("--heartbeat-s", "0.1", "--grace-s", "0.5", "--cooldown-s", "0")
    wire = greeted(worker)
    wire.say(type="open", session="a")
    wire.hear()
    assert wire.hear() is None  # nothing was said for so long: it hangs up ...
    again = greeted(worker)
    again.say(type="list")
    listed = again.hear()
    assert listed is not None
    assert (listed["sessions"], listed["free"]) == ([], 4)  # ... and has let go


def test_a_heartbeat_keeps_sessions(start_worker: Start) -> None:
    worker = start_worker("--heartbeat-s", "0.1", "--grace-s", "0.8")
    wire = greeted(worker)
    wire.say(type="open", session="a")
    wire.hear()
    wire.socket.settimeout(0.1)
    for _ in range(10):
        wire.say(type="heartbeat")
        with pytest.raises(TimeoutError):
            wire.hear()
    wire.socket.settimeout(5)
    wire.say(type="list")
    listed = wire.hear()
    assert listed is not None
    assert len(listed["sessions"]) == 1  # type: ignore[arg-type]


def test_stats_come_each_second_to_one_who_listens(start_worker: Start, phone: Phone) -> None:
    worker = start_worker()
    wire = greeted(worker)
    wire.say(type="open", session="a")
    wire.say(type="rule", session="a", rule=rule_to_data(phone.rule(silence_payload_type=0)))
    phone.listen()
    phone.speak((worker.host, 20000), packets=3)
    phone.speak((worker.host, 20000), payload_type=18)
    wire.hear()
    while (stats := wire.hear(but="")) is not None and stats["received"] != 3:
        wire.say(type="heartbeat")
    assert stats == {
        "type": "stats", "free": 3, "open": 1, "received": 3, "sent": 1, "strangers": 0, "invalid": 1
    }  # fmt: skip


def test_a_port_is_opened_again_for_the_session_that_had_it(start_worker: Start, phone: Phone) -> None:
    worker = start_worker()
    wire = greeted(worker)
    rule = rule_to_data(phone.rule(silence_payload_type=0))
    wire.say(type="reopen", session="a", port=20004, rule=rule)
    assert wire.hear() == {"type": "opened", "session": "a", "port": 20004}
    assert len(phone.listen()) == 172
    wire.say(type="reopen", session="a", port=20004)  # twice is as good as once
    assert wire.hear() == {"type": "opened", "session": "a", "port": 20004}
    wire.say(type="reopen", session="b", port=20004)  # it is another's now
    assert wire.hear() == {"type": "no_port", "session": "b"}
    wire.say(type="reopen", session="b")
    assert (wire.hear() or {})["type"] == "error"
