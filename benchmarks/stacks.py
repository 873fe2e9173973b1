"""What is measured, in production form: a real Redis with its append-only file, an application, and a system under test.

Every stack lives on a loopback address of its own and in a directory of its own, so several can stand side by side.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.phones import PASSWORD, REALM, username
from benchmarks.processes import BenchmarkError, Process, Role, children_of, cpu_s, private_loopback, rss_kb
from bridge.webhooks.signing import new_secret

ROOT = Path(__file__).resolve().parent.parent
ANSWERED_WEBHOOKS = 3  # incoming, answered, ended
# The caller's incoming, answered, joined, ended; the party's initiated, ringing, answered, joined, ended.
JOINED_WEBHOOKS = 9
CALLEE_PORT = 5070
SIP_PORT, REDIS_PORT = 5060, 6379
MEDIA_PORTS = "10000-32767"  # below the ports that Linux lends out: 11,384 pairs


@dataclass(frozen=True, slots=True)
class Variant:
    """How the system under test is set up."""

    log_level: str = "warning"
    log_format: str = "json"
    media_workers: int | None = None  # None: the bridge's own default, one for each core
    max_calls: int = 20_000
    dials: bool = False  # every caller is sent to a callee, and joined with it
    pairs: bool = False  # every caller is sent to the number that it has called, at `pairs_host`
    users: int = 0  # who may register
    verify: bool = False  # the application checks each signature: it then costs more than it answers


@dataclass(slots=True)
class Stack:
    """Running processes and where they listen."""

    name: str
    host: str
    directory: Path
    processes: list[Process]
    roles: tuple[Role, ...]
    webhooks: int = ANSWERED_WEBHOOKS  # per call
    sources: int = field(default=1)  # loopback addresses given away so far, our own being the first

    def new_source(self) -> str:
        """A loopback address to call from: no two SIPp share ports."""
        self.sources += 1
        return address_in(self.host, self.sources)

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far by role."""
        return {role.name: sum(cpu_s(pid) for pid in role.pids) for role in self.roles}

    def rss(self) -> dict[str, int]:
        """Resident KiB by role."""
        return {role.name: sum(rss_kb(pid) for pid in role.pids) for role in self.roles}

    def pid_of(self, role: str) -> int:
        return next(each.pids[0] for each in self.roles if each.name == role)

    def counts(self) -> Mapping[str, int]:
        """Webhooks that the application has received, by type."""
        types: dict[str, int] = self.told()["types"]
        return types

    def told(self) -> dict[str, Any]:
        """Everything the application has counted."""
        answer: dict[str, Any] = json.loads(fetch(f"http://{self.host}:3000/counts") or b'{"types": {}}')
        return answer

    def held(self) -> int:
        """Calls that are up, by the bridge's own metrics."""
        text = (fetch(f"http://{self.host}:8080/metrics") or b"").decode()
        return sum(
            round(float(line.rpartition(" ")[2])) for line in text.splitlines() if line.startswith("bridge_calls{")
        )

    def check_alive(self) -> None:
        """BenchmarkError when one of the processes has ended."""
        for process in self.processes:
            if process.ended is not None:
                raise BenchmarkError(f"{process.name} ended with {process.ended}:\n{process.last_words()}")


@dataclass(frozen=True, slots=True)
class Place:
    """What a system under test is told."""

    host: str
    directory: Path
    webhook_url: str
    secret: str
    redis_port: int
    variant: Variant


@dataclass(frozen=True, slots=True)
class Node:
    """One `serve`: its supervisor, and who is what of its processes."""

    host: str
    process: Process
    roles: tuple[Role, ...]


def start_bridge(stack: ExitStack, directory: Path, variant: Variant) -> Stack:
    """`python -m bridge serve` and what it needs; ready for calls."""
    place, processes = start_surroundings(stack, directory, variant)
    bridge = launch_node(stack, place, "bridge", node_config(place, place.host, "benchmark"))
    node = await_node(bridge, place.host)
    webhooks = JOINED_WEBHOOKS if variant.dials else ANSWERED_WEBHOOKS
    return Stack("bridge", place.host, directory, [*processes, bridge], (*node.roles, *roles_of(processes)), webhooks)


def launch_node(ends: ExitStack, place: Place, name: str, config: Mapping[str, Any]) -> Process:
    """`python -m bridge serve` with this configuration, which may take a while to be ready."""
    file = place.directory / f"{name}.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "bridge", "serve", "--config", str(file)]
    node = Process(name, command, directory=place.directory, environment={"PYTHONPATH": str(ROOT)}, patience_s=15.0)
    ends.callback(node.end)
    return node


def await_node(node: Process, host: str) -> Node:
    """Wait until it is ready for calls."""
    node.await_ready(lambda: fetch(f"http://{host}:8080/readyz") is not None)
    children = children_of(node.pid)
    roles = (
        Role("signalling", tuple(pid for pid, command in children.items() if "bridge signalling" in command)),
        Role("supervisor", (node.pid,)),
        Role("media", tuple(pid for pid, command in children.items() if "bridge.media.worker" in command)),
    )
    return Node(host, node, roles)


def start_peer(stack: ExitStack, directory: Path, variant: Variant, name: str, library: Path) -> Stack:
    """A peer of `benchmarks/peers`; `library` is where its packages are."""
    place, processes = start_surroundings(stack, directory, variant)
    settings = {
        "host": place.host,
        "webhook_url": place.webhook_url,
        "secret": place.secret,
        "redis": f"redis://{place.host}:{place.redis_port}/0",
    }
    (directory / "peer.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", f"benchmarks.peers.{name}", str(directory / "peer.json")]
    peer = Process(name, command, directory=directory, environment={"PYTHONPATH": f"{ROOT}:{library}"}, patience_s=2.0)
    stack.callback(peer.end)
    peer.await_ready((directory / "ready").exists)
    return Stack(
        name, place.host, directory, [*processes, peer], (Role("signalling", (peer.pid,)), *roles_of(processes))
    )


def start_surroundings(stack: ExitStack, directory: Path, variant: Variant) -> tuple[Place, list[Process]]:
    """Redis and the application."""
    directory.mkdir(parents=True)
    host, secret = private_loopback(), new_secret()
    redis_command = ["redis-server", "--bind", host, "--port", str(REDIS_PORT), "--dir", str(directory), "--save", ""]
    redis = Process("redis", [*redis_command, "--appendonly", "yes"], directory=directory)
    stack.callback(redis.end)
    redis.await_ready(lambda: _connects(host, REDIS_PORT))
    command = [sys.executable, "-m", "benchmarks.application", host, "3000"]
    command += ["--secret", secret] if variant.verify else []
    command += ["--dial", f"sip:callee@{host}:{CALLEE_PORT}"] if variant.dials else []
    command += ["--dial", f"sip:{{user}}@{pairs_host(host)}:{CALLEE_PORT}"] if variant.pairs else []
    application = Process("application", command, directory=directory, environment={"PYTHONPATH": str(ROOT)})
    stack.callback(application.end)
    application.await_ready(lambda: fetch(f"http://{host}:3000/counts") is not None)
    place = Place(host, directory, f"http://{host}:3000/calls", secret, REDIS_PORT, variant)
    return place, [redis, application, *([_callee(stack, host, directory)] if variant.dials else [])]


def _callee(stack: ExitStack, host: str, directory: Path) -> Process:
    """SIPp's own user agent server: 180, 200, and the 200 to the BYE."""
    home = directory / "callee"
    home.mkdir()
    command = ["sipp", "-sn", "uas", "-i", host, "-p", str(CALLEE_PORT), "-nostdin", "-skip_rlimit"]
    callee = Process("callee", command, directory=home)
    stack.callback(callee.end)
    return callee


def roles_of(processes: Iterable[Process]) -> tuple[Role, ...]:
    return tuple(Role(process.name, (process.pid,)) for process in processes)


def node_config(place: Place, host: str, name: str) -> dict[str, Any]:
    """Of a node that listens on `host`."""
    variant = place.variant
    return {
        "node_id": name,
        "data_dir": str(place.directory / f"data-{name}"),
        "sip": {"listen": [f"udp:{host}:{SIP_PORT}"], **({"domains": [REALM]} if variant.users else {})},
        # Where no RTP flows a call is held for as long as the measurement wants.
        "media": {"ports": MEDIA_PORTS, **({} if variant.pairs else {"timeout_s": 3600})}
        | ({} if variant.media_workers is None else {"workers": variant.media_workers}),
        "store": {"url": f"redis://{place.host}:{place.redis_port}/0"},
        "api": {"listen": f"{host}:8080"},
        "webhooks": {"url": place.webhook_url, "secrets": [place.secret]},
        # All of the load comes from one address, which in life would be a thousand phones.
        "limits": {"max_calls": variant.max_calls, "max_requests_per_source": 1_000_000},
        "users": [{"username": username(number), "password": PASSWORD} for number in range(variant.users)],
        "log": {"level": variant.log_level, "format": variant.log_format},
    }


def address_in(host: str, number: int) -> str:
    """Another address of the same stack."""
    return f"{host.rpartition('.')[0]}.{number}"


def pairs_host(host: str) -> str:
    """The address of the phones of `pairs`: beyond those of nodes."""
    return address_in(host, 9)


def fetch(url: str) -> bytes | None:
    """The body of a 2xx; None for anything else."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read()  # type: ignore[no-any-return]
    except (OSError, urllib.error.URLError):
        return None


def answers_options(host: str) -> bool:
    """Whether somebody at SIP's port answers at all."""
    lines = [
        f"OPTIONS sip:{host} SIP/2.0",
        f"Via: SIP/2.0/UDP {address_in(host, 1)};branch=z9hG4bK-ready;rport",
        "Max-Forwards: 70",
        f"From: <sip:ready@{host}>;tag=ready",
        f"To: <sip:{host}>",
        f"Call-ID: ready@{host}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        try:
            asking.connect((host, SIP_PORT))
            asking.send(("\r\n".join(lines) + "\r\n\r\n").encode())
            return asking.recv(65536).startswith(b"SIP/2.0 ")
        except OSError:
            return False


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
