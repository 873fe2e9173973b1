"""What the supervisor runs and under which name; how it keeps it alive is `test_children`'s."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import StartError
from bridge.store.embedded import EmbeddedStore
from bridge.supervisor import SOCKET_PATH_MAX, Plan, children, make_run_dir, node_name

PLAN = Plan(
    data_dir="/var/lib/bridge",
    node_id=None,
    embedded=False,
    media_bind="192.0.2.10",
    media_ports=("20000-20499", "20500-20999,30000-30099"),
    media_timeout_s=60.0,
    config='{"cluster": {"secret": "hunter2"}}',
    log_level="info",
    log_as_json=False,
)


class Said(list[tuple[str, str]]):
    """What was said: (level, event)."""

    def __call__(self, level: str, event: str, **facts: object) -> None:
        self.append((level, event))


@pytest.fixture
def say() -> Said:
    return Said()


def test_a_plan_is_read_as_it_was_written() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN


class TestChildren:
    def test_workers_come_before_signalling_which_is_told_of_them(self) -> None:
        first, second, signalling = children(PLAN, run_dir=Path("/run/b"), node_id="node-a", store=None)
        assert [spec.name for spec in (first, second, signalling)] == ["media-0", "media-1", "signalling"]
        assert first.stage == second.stage < signalling.stage
        assert first.command[1:] == (
            *("-m", "bridge.media.worker", "--socket", "/run/b/media-0.sock"),
            *("--bind", "192.0.2.10", "--ports", "20000-20499", "--timeout-s", "60"),
        )
        assert signalling.command[1:] == (
            *("-m", "bridge", "signalling", "--node-id", "node-a"),
            *("--worker", "/run/b/media-0.sock", "--worker", "/run/b/media-1.sock"),
        )
        assert signalling.stdin == PLAN.config

    def test_an_embedded_store_comes_first_and_its_lock_goes_with_it(self, tmp_path: Path) -> None:
        with (tmp_path / "lock").open("w") as hold:
            store = EmbeddedStore(Path("/usr/bin/valkey-server"), tmp_path, Path("/run/b/store.sock"), hold)
            specs = children(PLAN, run_dir=Path("/run/b"), node_id="node-a", store=store)
            assert (specs[0].name, specs[0].inherits) == ("store", (hold.fileno(),))
        assert specs[0].stage < min(spec.stage for spec in specs[1:])
        command = " ".join(specs[-1].command)
        assert "--store-url unix:///run/b/store.sock" in command

    def test_no_command_line_shows_a_secret(self) -> None:
        specs = children(PLAN, run_dir=Path("/run/b"), node_id="node-a", store=None)
        assert "hunter2" not in " ".join(word for spec in specs for word in spec.command)

    def test_signalling_may_say_that_another_process_took_its_place(self) -> None:
        specs = children(PLAN, run_dir=Path("/run/b"), node_id="node-a", store=None)
        assert specs[-1].final_codes == {3}

    def test_a_worker_s_old_socket_does_not_pass_for_a_new_one(self, tmp_path: Path) -> None:
        worker = children(PLAN, run_dir=tmp_path, node_id="node-a", store=None)[0]
        (tmp_path / "media-0.sock").touch()
        assert worker.is_ready()
        worker.before_start()
        assert not worker.is_ready()


class TestNodeName:
    def test_it_is_the_same_after_a_restart(self, tmp_path: Path, say: Said) -> None:
        name, hold = node_name(tmp_path / "new" / "data", say=say)
        assert hold is not None
        hold.close()
        again, hold = node_name(tmp_path / "new" / "data", say=say)
        assert hold is not None
        hold.close()
        assert name == again
        assert re.fullmatch(r"node-[a-z2-7]{8}", name)
        assert say == []

    def test_two_processes_on_one_directory_have_two(self, tmp_path: Path, say: Said) -> None:
        first, hold = node_name(tmp_path, say=say)
        second, none = node_name(tmp_path, say=say)
        assert none is None
        assert first != second
        assert say == [("warning", "node_id_not_kept")]
        assert hold is not None
        hold.close()
        kept, hold = node_name(tmp_path, say=say)
        assert kept == first
        assert hold is not None
        hold.close()

    def test_where_nothing_can_be_kept_it_is_new_each_time_and_says_so(self, tmp_path: Path, say: Said) -> None:
        (tmp_path / "file").touch()
        names = {node_name(tmp_path / "file" / "data", say=say)[0] for _ in range(2)}
        assert len(names) == 2
        assert say == [("warning", "node_id_not_kept")] * 2


class TestRunDirectory:
    @pytest.fixture
    def place(self) -> Iterator[Path]:
        """Short, for a Unix socket's path must be."""
        with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp") as name:
            yield Path(name)

    def test_it_is_ours_alone(self, place: Path) -> None:
        run_dir, lock = make_run_dir({"XDG_RUNTIME_DIR": str(place)})
        os.close(lock)
        assert run_dir.parent == place
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700

    def test_a_place_too_deep_for_sockets_is_passed_over(self, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 100)
        deep.mkdir()
        run_dir, lock = make_run_dir({"XDG_RUNTIME_DIR": str(deep)})
        os.close(lock)
        run_dir.rmdir()
        assert run_dir.parent != deep
        assert len(str(run_dir / "media-255.sock")) <= SOCKET_PATH_MAX

    def test_those_of_killed_supervisors_are_removed_and_no_others(self, place: Path) -> None:
        living, lock = make_run_dir({"XDG_RUNTIME_DIR": str(place)})
        killed, of_the_killed = make_run_dir({"XDG_RUNTIME_DIR": str(place)})
        os.close(of_the_killed)
        foreign = place / "something-else"
        foreign.mkdir()
        for directory in (living, killed, foreign):
            os.utime(directory, (0, 0))
        young, of_the_young = make_run_dir({"XDG_RUNTIME_DIR": str(place)})
        os.close(of_the_young)
        newest, of_the_newest = make_run_dir({"XDG_RUNTIME_DIR": str(place)})
        assert set(place.iterdir()) == {living, foreign, young, newest}
        os.close(of_the_newest)
        os.close(lock)

    def test_nowhere_to_write_names_the_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**_: object) -> str:
            raise PermissionError("read-only file system")

        monkeypatch.setattr(tempfile, "mkdtemp", refuse)
        with pytest.raises(StartError, match="TMPDIR"):
            make_run_dir({})


def test_it_carries_nothing_but_the_standard_library_and_no_event_loop() -> None:
    listing = "import sys, bridge.supervisor; print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", listing], text=True).split())
    assert "bridge.children" in modules
    assert modules & {"asyncio", "pydantic", "aiohttp", "redis", "hiredis", "structlog", "click", "yaml"} == set()


def test_what_keeps_it_from_starting_is_said_and_is_code_1(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where a directory should be")
    plan = replace(PLAN, embedded=True, data_dir=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "bridge.supervisor"], input=plan.to_json(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not_started" in done.stderr
    assert "--data_dir" in done.stderr
