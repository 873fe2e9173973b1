"""The supervisor: a tiny parent of the embedded store, the media workers and the signalling process (architecture §6).

`sip-bridge serve` becomes this process once it has read the configuration, so it is PID 1 in a container, and carries
neither asyncio nor anything outside the standard library. Its plan comes on standard input, and so does signalling's
configuration: secrets stand in no command line, no environment and no file. Refuses to know what the settings mean.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from bridge.ambient import SystemClock, SystemTokens
from bridge.children import SIGNALS, Children, ChildSpec, Say, say_to_stderr
from bridge.errors import StartError
from bridge.store.embedded import EmbeddedStore, Readiness, prepare

SOCKET_PATH_MAX = 100  # bytes; a Unix socket's path ends at 107
RUN_PREFIX = "sip-bridge-"
ABANDONED_S = 60.0  # a younger directory may not be locked yet
LONGEST_SOCKET_NAME = "media-255.sock"
SIGNALLING_STOP_S = 110.0  # below the 120 s of grace that a pod gets
SIGNALLING_START_S = 30.0  # longer than it waits for its store before it gives up
REPLACED = 3  # exit code of signalling: another process bears our name, and starting again would take it back


@dataclass(frozen=True, slots=True)
class Plan:
    """What `serve` has worked out of the configuration, as plain JSON."""

    data_dir: str
    node_id: str | None  # None: the one kept in data_dir
    embedded: bool  # the store is ours to run
    media_bind: str  # address for the RTP sockets
    media_ports: tuple[str, ...]  # one slice for each worker: "20000-20499,30000-30099"
    media_timeout_s: float
    config: str  # signalling's configuration, secrets included
    log_level: str
    log_as_json: bool

    def to_json(self) -> str:
        """As `main` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "media_ports": tuple(fields["media_ports"])})


def make_run_dir(environ: Mapping[str, str]) -> tuple[Path, int]:
    """A new directory for Unix sockets, open to us alone, and the descriptor that keeps it locked while we live.

    Those of supervisors that were killed are removed. StartError when no place is short enough and writable.
    """
    places = [environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]  # noqa: S108 -- mkdtemp makes it safe
    for place in places:
        if not place or len(os.fsencode(place)) + len(f"/{RUN_PREFIX}xxxxxxxx/{LONGEST_SOCKET_NAME}") > SOCKET_PATH_MAX:
            continue
        try:
            run_dir = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=place))
        except OSError:
            continue  # the next place may be writable
        lock = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_abandoned(Path(place))
        return run_dir, lock
    raise StartError("no writable directory for Unix sockets: give one of at most 60 characters in TMPDIR")


def _remove_abandoned(place: Path) -> None:
    for directory in place.glob(f"{RUN_PREFIX}*"):
        try:
            about = directory.stat()
            if about.st_uid != os.getuid() or SystemClock().now() - about.st_mtime < ABANDONED_S:
                continue
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another supervisor was faster, or it is no directory
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:
            continue  # its supervisor lives
        finally:
            os.close(lock)


def node_name(data_dir: Path, *, say: Say) -> tuple[str, IO[str] | None]:
    """A name for this node: the same after a restart on this directory, never the same in two processes at once.

    It is kept in `data_dir/node_id`, and locked while the returned file is open. Where that cannot be, it is a new one.
    """
    fresh = f"node-{SystemTokens().token(8)}"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "node_id").open("a+", encoding="ascii")
    except OSError as error:
        say("warning", "node_id_not_kept", node_id=fresh, detail=f"{error}: calls will not be found after a restart")
        return fresh, None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        say("warning", "node_id_not_kept", node_id=fresh, detail=f"{data_dir} belongs to another running node")
        return fresh, None
    file.seek(0)
    kept = file.read(100).strip()
    if not kept:
        file.truncate(0)
        file.write(f"{fresh}\n")
        file.flush()
    return kept or fresh, file


def children(plan: Plan, *, run_dir: Path, node_id: str, store: EmbeddedStore | None) -> list[ChildSpec]:
    """What has to run: the store first, then the media workers, then signalling."""
    specs = [] if store is None else [_store_spec(store)]
    sockets = [run_dir / f"media-{number}.sock" for number in range(len(plan.media_ports))]
    specs += [
        ChildSpec(
            name=f"media-{number}",
            stage=1,
            command=(
                *(sys.executable, "-m", "bridge.media.worker", "--socket", str(sockets[number])),
                *("--bind", plan.media_bind, "--ports", ports, "--timeout-s", f"{plan.media_timeout_s:g}"),
            ),
            before_start=_remover(sockets[number]),
            is_ready=sockets[number].exists,
            stop_limit_s=5.0,
        )
        for number, ports in enumerate(plan.media_ports)
    ]
    options = ["--node-id", node_id]
    options += [] if store is None else ["--store-url", store.url]
    for path in sockets:
        options += ["--worker", str(path)]
    signalling = ChildSpec(
        name="signalling",
        stage=2,
        command=(sys.executable, "-m", "bridge", "signalling", *options),
        stdin=plan.config,
        start_limit_s=SIGNALLING_START_S,
        stop_limit_s=SIGNALLING_STOP_S,
        reloads=True,
        final_codes=frozenset({REPLACED}),
    )
    return [*specs, signalling]


def _store_spec(store: EmbeddedStore) -> ChildSpec:
    return ChildSpec(
        name="store",
        stage=0,
        command=store.command(),
        inherits=(store.hold.fileno(),),
        before_start=store.forget_log,
        is_ready=lambda: store.readiness() is Readiness.READY,
        last_words=store.last_words,
    )


def _remover(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)


def _use_all_descriptors() -> None:
    """Raise the soft limit to the hard one, for us and all we start: two sockets a call are soon 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def supervise(plan: Plan) -> int:
    """Run everything until told to end; returns the exit code (contract §5)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    say = say_to_stderr(level=plan.log_level, as_json=plan.log_as_json)
    _use_all_descriptors()
    with ExitStack() as stack:
        try:
            data_dir = Path(plan.data_dir)
            run_dir, lock = make_run_dir(os.environ)
            stack.callback(os.close, lock)
            stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
            store = prepare(data_dir, run_dir) if plan.embedded else None
            if store is not None:
                stack.callback(store.hold.close)
            node_id, hold = (plan.node_id, None) if plan.node_id else node_name(data_dir, say=say)
            if hold is not None:
                stack.callback(hold.close)
        except StartError as error:
            say("error", "not_started", detail=str(error))
            return 1
        if store is not None and "KUBERNETES_SERVICE_HOST" in os.environ:
            say("warning", "embedded_store_in_kubernetes", detail="calls die with this pod: give store.url a Redis")
        return Children(children(plan, run_dir=run_dir, node_id=node_id, store=store), say=say).run()


def main() -> None:
    """Entry of `python -m bridge.supervisor`: the plan on standard input."""
    sys.exit(supervise(Plan.from_json(sys.stdin.read())))


if __name__ == "__main__":
    main()
