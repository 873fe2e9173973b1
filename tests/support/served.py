"""`sip-bridge serve` as an operator runs it: one supervisor and its children, watched through its log, metrics and REST."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import ClientConnectionError, ClientResponse, ClientSession, ClientTimeout

from tests.support.application import SECRET
from tests.support.namespaces import LOOPBACK, Host
from tests.support.programs import END_S, PORTS, Program, children_of, tail, wait_until_gone
from tests.support.waiting import PATIENCE_S, until, until_awaited

KEY = "the-key-of-the-tests"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([0-9.eE+-]+|NaN)$", re.MULTILINE)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if nested else value
    return result


class Served:
    """One node. `config` is laid over defaults that fit a test: loopback or where `host` is, free ports, JSON log, one media
    worker."""

    def __init__(
        self, directory: Path, config: Mapping[str, Any], *, media_pairs: int = 200, host: Host = LOOPBACK
    ) -> None:
        self.directory = directory
        self.host = host
        self.sip_port, self.api_port, self.tls_port = PORTS.one(), PORTS.one(), PORTS.one()
        self.sip_address = (host.address, self.sip_port)  # as phones reach it
        self.media_port = PORTS.block(2 * media_pairs)
        base = {
            "data_dir": str(directory / "data"),
            "sip": {"listen": [f"{transport}:{host.address}:{self.sip_port}" for transport in ("udp", "tcp")]},
            "media": {"ports": f"{self.media_port}-{self.media_port + 2 * media_pairs - 1}", "workers": 1},
            "api": {
                "listen": f"{host.address}:{self.api_port}",
                "keys": [{"name": "tests", "key": KEY, "scopes": ["control"]}],
            },
            "webhooks": {"secrets": [SECRET]},
            "log": {"format": "json"},
        }
        self.config = merged(base, config)
        if "tls" in self.config["sip"]:
            self.config["sip"]["listen"] += [f"tls:127.0.0.1:{self.tls_port}"]
        self.log = directory / "log"
        self.output = directory / "output"
        self._program: Program | None = None
        self._session: ClientSession | None = None
        self._read = 0  # bytes of the log that belong to earlier starts

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            f"http://{self.host.address}:{self.api_port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=ClientTimeout(total=PATIENCE_S),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        self.kill()
        self._read = 0
        lines = self.lines()
        # Shown by pytest with a test that has failed, and only then.
        print(f"--- {self.log}, without what is ordinary:")
        for line in [line for line in lines if line.get("level") not in ("debug", "info")][-40:]:
            print(json.dumps(line))
        faults = [
            line for line in lines if line.get("event") in ("fault", "unreadable") or line.get("level") == "critical"
        ]
        assert not faults, f"{len(faults)} faults of our own in the log, the first: {faults[0]}"

    # Its life

    def launch(self, *arguments: str) -> Program:
        """Start it, without waiting for anything."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "bridge.yaml"
        file.write_text(yaml.safe_dump(self.config))
        self._read = self.log.stat().st_size if self.log.exists() else 0
        self._program = Program(
            self.host.command([sys.executable, "-m", "bridge", "serve", "--config", str(file), *arguments]),
            output=self.output,
            errors=self.log,
            dies_with_us=signal.SIGTERM,  # it passes that on to its children
        )
        return self._program

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        program = self.launch()
        await self.ready(program)

    async def ready(self, program: Program | None = None) -> None:
        """Wait until `/readyz` says 200."""

        async def is_ready() -> bool:
            if program is not None:
                assert program.code() is None, f"it ended with {program.code()}:\n{tail(self.log)}"
            return await self.status("/readyz") == 200

        await until_awaited(is_ready, "the bridge is ready")

    @property
    def program(self) -> Program:
        """The supervisor."""
        assert self._program is not None, "it was never started"
        return self._program

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self.program.pid

    def pid_of(self, child: str) -> int:
        """Of `signalling`, `media-0`, ... or `store`, as last started."""
        started = [line for line in self.said("child_started") if line["child"] == child]
        assert started, f"no {child} has been started"
        return int(started[-1]["pid"])

    def kill_child(self, child: str) -> int:
        """`kill -9` of one of them; the pid that it had."""
        pid = self.pid_of(child)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def next_pid_of(self, child: str, former: int) -> int:
        """Wait until the supervisor has started another one."""
        await until(lambda: self.pid_of(child) != former, f"{child} is started again")
        return self.pid_of(child)

    def stop(self, within_s: float = END_S) -> int:
        """SIGTERM, as an operator stops it. The exit code."""
        self.program.send(signal.SIGTERM)
        return self.program.wait(within_s)

    def kill(self) -> None:
        """`kill -9` of the whole node: supervisor, signalling, media workers and store, none of which gets a word in."""
        program = self._program
        if program is None:
            return
        if program.code() is None:
            program.send(signal.SIGSTOP)  # so that it neither restarts what dies nor warns the others by dying first
            children = children_of(program.pid)
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            program.kill()
            wait_until_gone(children)

    # What it says

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of this event since its last start, oldest first."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> list[dict[str, Any]]:
        """All complete log lines since its last start."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = log.read().decode(errors="replace")
        found = []
        for line in text.splitlines()[: None if text.endswith("\n") else -1]:
            if line.startswith("sip-bridge: "):
                found.append({"event": "refused_to_start", "level": "error", "line": line})
                continue
            try:
                read = json.loads(line)
            except ValueError:
                read = None
            # What is no JSON object is a traceback, or what somebody has printed.
            usual = isinstance(read, dict) and "event" in read
            found.append(read if usual else {"event": "unreadable", "level": "error", "line": line})
        return found

    async def says(self, event: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for a log line; the last one of this event."""
        return (await until(lambda: self.said(event), lambda: f"{event}:\n{tail(self.log)}", within_s=within_s))[-1]

    def complaints(self) -> list[dict[str, Any]]:
        """Every line of level error or worse, and what is no log line at all."""
        return [line for line in self.lines() if line.get("level") in ("error", "critical")]

    # HTTP

    def rest(self, method: str, path: str, **arguments: Any) -> Any:
        """A request to its API, with the key: `async with bridge.rest("GET", "/v1/calls") as answer`."""
        assert self._session is not None, "enter it first"
        return self._session.request(method, path, **arguments)

    async def read(self, path: str) -> dict[str, Any]:
        """The JSON of a GET that succeeds."""
        async with self.rest("GET", path) as answer:
            assert answer.status == 200, f"GET {path}: {answer.status} {await answer.text()}"
            content: dict[str, Any] = await answer.json()
            return content

    async def status(self, path: str) -> int | None:
        """The status of a GET; None when nobody answers."""
        try:
            async with self.rest("GET", path) as answer:
                assert isinstance(answer, ClientResponse)
                return answer.status
        except (ClientConnectionError, TimeoutError):
            return None

    async def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by name with its labels as Prometheus writes them."""
        async with self.rest("GET", "/metrics") as answer:
            text = await answer.text()
        return {
            name + (f"{{{labels}}}" if labels else ""): float(value) for name, labels, value in _SAMPLE.findall(text)
        }
