"""Keeping child processes alive: stages, restarts with back-off, and an orderly end.

Each stage starts when the one before is ready; what dies is started again, with back-off; SIGTERM is passed on in the
opposite order. Standard library only, one thread. Linux only: it waits with sigtimedwait(2), and prctl(2) has the
children told when we die. Refuses to know what the children do.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from bridge.ambient import SystemClock

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
COULD_NOT_START = frozenset({1, 2})  # what our programs exit with when the world or the configuration refuses
RESTART_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # after the first, second, ... death in a row
STEADY_S = 30.0  # who lived this long dies for the first time again
FORCED_STOP_S = 2.0  # what a second SIGTERM leaves a child
READY_POLL_S = 0.02
READY_SAY_S = 10.0
PR_SET_PDEATHSIG = 1
LEVELS = ("debug", "info", "warning", "error")

_libc = ctypes.CDLL(None, use_errno=True)  # before any fork: the child must not load anything


class Say(Protocol):
    """Where our own few lines go."""

    def __call__(self, level: str, event: str, **facts: object) -> None: ...


def say_to_stderr(*, level: str, as_json: bool) -> Say:
    """Lines of at least `level`, like those of the other processes, which share our standard error."""
    clock = SystemClock()
    wanted = LEVELS[LEVELS.index(level) :]

    def say(level: str, event: str, **facts: object) -> None:
        if level not in wanted:
            return
        moment = datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if as_json:
            line = json.dumps({"timestamp": moment, "level": level, "event": event, "logger": "supervisor", **facts})
        else:
            line = f"{moment} [{level:<7}] {event} " + " ".join(f"{name}={value}" for name, value in facts.items())
        try:
            sys.stderr.write(line.rstrip() + "\n")
            sys.stderr.flush()
        except OSError:
            return  # a closed terminal, a full disk: nobody is left to be told, and the calls go on

    return say


def _always() -> bool:
    return True


def _nothing() -> None:
    return None


def _silent() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One process to keep alive."""

    name: str
    command: tuple[str, ...]
    stage: int = 0  # starts when every lower stage is ready, stops before them
    stdin: str = ""  # its whole standard input
    inherits: tuple[int, ...] = ()  # file descriptors it shares with us
    before_start: Callable[[], None] = _nothing  # each time
    is_ready: Callable[[], bool] = _always
    last_words: Callable[[], str] = _silent  # why it ended, where it says that elsewhere than on standard error
    start_limit_s: float = 10.0  # exit 1 or 2 within this time of its very first start ends us all, with that code
    stop_limit_s: float = 10.0  # from SIGTERM to SIGKILL
    reloads: bool = False  # SIGHUP has it read files again; the others never see one
    final_codes: frozenset[int] = frozenset()  # exit codes by which it asks not to be started again: they end us all


class Child:
    """What became of one `ChildSpec`."""

    __slots__ = ("due", "failures", "kill_at", "pid", "said_at", "spec", "started_at", "starts", "was_ready")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.due = 0.0  # not started again before
        self.starts = 0
        self.failures = 0  # deaths in a row, none after a steady life
        self.started_at = 0.0
        self.said_at = 0.0  # when we last said that it keeps us waiting
        self.was_ready = False
        self.kill_at: float | None = None  # set once it has been told to end

    def start(self, now: float) -> None:
        """Fork and exec. OSError when the program cannot be run."""
        self.starts += 1
        self.started_at = self.said_at = now
        self.spec.before_start()
        # A file without a name: what it holds may be secret, and no writer has to wait for a reader.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as stdin:
            stdin.write(self.spec.stdin)
            stdin.seek(0)
            process = subprocess.Popen(  # noqa: S603 -- our own command lines, no shell
                self.spec.command,
                stdin=stdin,
                pass_fds=self.spec.inherits,
                # A session of its own: Ctrl-C is ours to pass on, in order.
                start_new_session=True,
                # Safe here: one thread, nothing loaded after the fork. There is no other way between fork and exec.
                preexec_fn=tied_to(os.getpid()),  # noqa: PLW1509
            )
        self.pid = process.pid
        process.returncode = 0  # it is `Children` that reaps: Popen shall neither wait nor warn

    def ended(self, code: int, now: float) -> float:
        """Note its death; returns how long it lived."""
        self.pid = None
        lived = now - self.started_at
        self.failures = 1 if lived >= STEADY_S else self.failures + 1
        self.due = now + RESTART_PAUSES_S[min(self.failures, len(RESTART_PAUSES_S)) - 1]
        return lived


def tied_to(parent: int) -> Callable[[], None]:
    """What a child of `parent` has to do between fork and exec, so that it is told (SIGTERM) when `parent` dies."""

    def prepare_child() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # until it says otherwise: one that comes too early must not end it
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we could ask to be told
            os._exit(1)

    return prepare_child


class Children:
    """Keeps children alive until it is told to end, or one of them cannot start at all."""

    def __init__(self, specs: Sequence[ChildSpec], *, say: Say) -> None:
        self._children = [Child(spec) for spec in specs]
        self._say = say
        self._stopping = False
        self._forced = False
        self._code = 0

    def run(self) -> int:
        """Blocks until everything has ended; returns our exit code. The caller has blocked `SIGNALS`."""
        while not self._stopping or self._alive():
            now = time.monotonic()
            if self._stopping:
                self._stop(now)
            else:
                self._start(now)
            received = signal.sigtimedwait(SIGNALS, self._patience(time.monotonic()))
            if received is not None:
                self._receive(received.si_signo)
            self._reap()
        self._say("info", "stopped", code=self._code)
        return self._code

    def _alive(self) -> list[Child]:
        return [child for child in self._children if child.pid is not None]

    def _start(self, now: float) -> None:
        for child in self._children:
            if child.pid is None and child.due <= now and self._turn_of(child):
                self._start_one(child, now)
            if child.pid is not None and not child.was_ready:
                child.was_ready = child.spec.is_ready()
                if not child.was_ready and now - child.said_at >= READY_SAY_S:
                    child.said_at = now
                    self._say(
                        "warning", "child_not_ready", child=child.spec.name, waited_s=round(now - child.started_at)
                    )

    def _turn_of(self, child: Child) -> bool:
        return all(other.was_ready for other in self._children if other.spec.stage < child.spec.stage)

    def _start_one(self, child: Child, now: float) -> None:
        try:
            child.start(now)
        except OSError as error:
            self._say("error", "child_not_run", child=child.spec.name, detail=str(error))
            self._after_death(child, 1, now)
        else:
            self._say("info", "child_started", child=child.spec.name, pid=child.pid, start=child.starts)

    def _reap(self) -> None:
        """Bury every dead child, strangers included: as PID 1 we inherit the orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = next((child for child in self._children if child.pid == pid), None)
            if child is not None:
                self._after_death(child, os.waitstatus_to_exitcode(status), time.monotonic())

    def _after_death(self, child: Child, code: int, now: float) -> None:
        lived = child.ended(code, now)
        facts: dict[str, object] = {"child": child.spec.name, "lived_s": round(lived, 3)}
        facts |= {"code": code} if code >= 0 else {"signal": signal.strsignal(-code) or -code}
        words = child.spec.last_words() if code else ""
        if words:
            facts["detail"] = words
        if self._stopping:
            self._say("info", "child_ended", **facts)
        elif child.starts == 1 and code in COULD_NOT_START and lived < child.spec.start_limit_s:
            self._say("error", "child_could_not_start", **facts)
            self._code, self._stopping = code, True
        elif code in child.spec.final_codes:
            self._say("error", "child_ended_for_good", **facts)
            self._code, self._stopping = code, True
        else:
            self._say("warning", "child_died", **facts, restart_in_s=round(child.due - now, 3))

    def _receive(self, signum: int) -> None:
        if signum == signal.SIGCHLD:
            return
        if signum == signal.SIGHUP and not os.isatty(sys.stderr.fileno()):
            self._reload()
            return
        self._say("info", "stopping", signal=signal.Signals(signum).name, forced=self._stopping)
        if self._stopping:
            self._force(time.monotonic())
        self._stopping = True

    def _reload(self) -> None:
        self._say("info", "reloading", detail="certificates are read again; a changed configuration needs a restart")
        for child in self._alive():
            if child.pid is not None and child.spec.reloads:
                os.kill(child.pid, signal.SIGHUP)

    def _force(self, now: float) -> None:
        """Tell those who are ending already once more, and give everybody little time."""
        self._forced = True
        for child in self._alive():
            if child.pid is not None and child.kill_at is not None:
                child.kill_at = min(child.kill_at, now + FORCED_STOP_S)
                os.kill(child.pid, signal.SIGTERM)

    def _stop(self, now: float) -> None:
        alive = self._alive()
        last_stage = max((child.spec.stage for child in alive), default=0)
        for child in alive:
            if child.pid is None or child.spec.stage < last_stage:
                continue
            if child.kill_at is None:
                child.kill_at = now + min(child.spec.stop_limit_s, FORCED_STOP_S if self._forced else math.inf)
                os.kill(child.pid, signal.SIGTERM)
            elif now >= child.kill_at:
                self._say("error", "child_killed", child=child.spec.name, detail="it did not end in time")
                child.kill_at = now + FORCED_STOP_S
                self._code = self._code or 1
                os.kill(child.pid, signal.SIGKILL)

    def _patience(self, now: float) -> float:
        """Seconds until there is something to do without a signal."""
        moments = [now + 3600.0]
        for child in self._children:
            if self._stopping:
                moments += [child.kill_at] if child.pid is not None and child.kill_at is not None else []
            elif child.pid is None:
                moments += [child.due] if self._turn_of(child) else []
            elif not child.was_ready:
                moments.append(now + READY_POLL_S)
        return max(0.0, min(moments) - now)
