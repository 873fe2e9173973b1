"""Hosts with addresses of their own on one machine: network namespaces on a common street, some behind a NAT of their own.

Loopback hides every fault of addressing: there, whoever sends from the wrong socket or to the wrong address still arrives.

    with Network() as network:              # needs root, `ip` and `nft`
        node = network.host("node")         # a namespace with an address on the street
        phone = network.behind_nat("phone") # one whose router masquerades, and lets nothing in that was not asked for
        network.cut(node, other.address)    # no packet between the two, either way
        network.heal()

A program runs there with `host.command([...])`, and a socket of ours is there with `host.datagram_socket()`: a socket stays in
the namespace that it was made in. `network.here` is this process's own place on the street. All of it goes when it is left; what
a run that was killed has left behind goes when the next one begins.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.programs import find_program, is_alive

STREETS = (
    "44.128"  # set aside for tests (ampr.org), and global to `ipaddress`: what is private is treated as behind a NAT
)
INSIDE = "192.168.73"  # what every router has behind it
BEHIND = "192.168.74"  # what an edge has behind it
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_OWN = Path("/proc/thread-self/ns/net")
_PLACES = Path("/run/netns")

# A phone's router as one buys it: answers of whom it has asked come in, and nothing else. `random`: with another port outside.
_ROUTER = """
table ip nat {{
    chain out {{
        type nat hook postrouting priority srcnat;
        oifname "eth0" masquerade {ports}
    }}
}}
table ip filter {{
    chain in {{
        type filter hook input priority filter;
        iifname "eth0" drop
    }}
    chain through {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "eth1" accept
    }}
}}
"""
_CUT = """
table ip cut {{}}
delete table ip cut
table ip cut {{
    chain coming {{
        type filter hook input priority filter;
        ip saddr {{ {addresses} }} drop
    }}
}}
"""
_LOSS = """
table ip loss {{
    chain coming {{
        type filter hook input priority filter;
        meta l4proto udp numgen random mod 100 < {percent} drop
    }}
}}
"""
# Whatever state it kept would lead to who is dead: each packet is rewritten by itself.
_EDGE = """
table ip edge {{}}
delete table ip edge
table ip edge {{
    chain before {{
        type filter hook prerouting priority raw;
        meta l4proto udp notrack
        {coming}
    }}
    chain after {{
        type filter hook postrouting priority raw;
        oifname "eth0" meta l4proto udp ip saddr {inner} ip saddr set {address}
    }}
}}
"""
_NOBODY = "02:00:00:00:00:99"  # has this Ethernet address


class Host:
    """A place with an address. Without a namespace it is this process's own."""

    def __init__(self, address: str, namespace: str = "") -> None:
        self.address = address
        self.namespace = namespace

    @property
    def shown(self) -> str:
        """The address as URIs have it."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line that runs this there. The process is the program's own: `ip` becomes it."""
        return [find_program("ip"), "netns", "exec", self.namespace, *command] if self.namespace else list(command)

    def datagram_socket(self) -> socket.socket:
        """One that is bound to a port there."""
        with self.inside():
            made = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind((self.address, 0))
        return made

    def stream_socket(self) -> socket.socket:
        """One that connects from there."""
        with self.inside():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        return made

    def datagrams_heard(self) -> int:
        """UDP datagrams that programs there have been given so far."""
        with self.inside():
            text = Path("/proc/thread-self/net/snmp").read_text()
        names, figures = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
        return int(figures[names.index("InDatagrams")])

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread makes meanwhile is there. Nothing may be awaited."""
        if not self.namespace:
            yield
            return
        with _OWN.open("rb") as own, (_PLACES / self.namespace).open("rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())


LOOPBACK = Host("127.0.0.1")
LOOPBACK6 = Host("::1")


class Edge:
    """One address for several hosts: what comes for a port goes to the host that has it now, and whatever they send leaves from
    this address, and from the port that they have sent it from."""

    def __init__(self, network: Network, address: str, namespace: str) -> None:
        self.address = address
        self.namespace = namespace
        self.hosts: list[Host] = []
        self._network = network
        self._ports: dict[str, Host] = {}

    def host(self, name: str) -> Host:
        """Another one behind it."""
        host = self._network.behind_edge(self, name)
        self.hosts.append(host)
        return host

    def lead(self, ports: str, host: Host) -> None:
        """UDP for these ports (`5060`, `4000-4099`) goes to this host from now on."""
        self._ports[ports] = host
        leads = (
            f"ip daddr {self.address} udp dport {each} ip daddr set {to.address}" for each, to in self._ports.items()
        )
        rules = _EDGE.format(coming="\n        ".join(leads), inner=f"{BEHIND}.0/24", address=self.address)
        self._network.rule(self.namespace, rules)


class Network:
    """One street, and who lives there. One at a time in a process."""

    def __init__(self) -> None:
        self._name = f"bt{os.getpid()}"
        self._namespaces: list[str] = []
        self._devices: list[str] = []  # on our side, the street itself first
        self._cuts: dict[str, list[str]] = {}  # by namespace: the addresses that it is cut off from
        self._last = 1
        self._ip, self._nft = find_program("ip"), find_program("nft")
        self.here: Host

    def __enter__(self) -> Self:
        if not _may_make_namespaces():
            text = (
                "network namespaces want root (CAP_SYS_ADMIN and CAP_NET_ADMIN): tests of addresses and NAT do not run"
            )
            if os.environ.get("CI") == "true" and os.getuid() == 0:
                pytest.fail(text)
            pytest.skip(text)
        self._sweep()
        try:
            self._pave()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def own_host(self) -> Host:
        """Another place of this process's own, with an address on the street."""
        self._last += 1
        host = Host(str(self._street[self._last]))
        self._run_ip("address", "add", f"{host.address}/24", "dev", self._name)
        return host

    def host(self, name: str) -> Host:
        """A new one on the street."""
        return self._on_the_street(name)

    def behind_nat(self, name: str, *, other_ports: bool = True) -> Host:
        """A new one that a router of its own stands before. `other_ports`: outside, what it sends comes from other ports than
        inside, and from another one for each whom it speaks to; else from the same, as long as nobody else has them."""
        router = self._on_the_street(f"{name}-router")
        host = Host(f"{INSIDE}.2", self._namespace(name))
        self._link("eth0", host.namespace, "eth1", router.namespace)
        self._configure(host.namespace, "eth0", f"{INSIDE}.2/24")
        self._configure(router.namespace, "eth1", f"{INSIDE}.1/24")
        self._run_ip("-n", host.namespace, "route", "add", "default", "via", f"{INSIDE}.1")
        _run(Host("", router.namespace).command(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))
        self.rule(router.namespace, _ROUTER.format(ports="random" if other_ports else ""))
        return host

    def edge(self, name: str) -> Edge:
        """A new one on the street, with nobody behind it yet. What is behind it is reached directly too, by all but UDP."""
        router = self._on_the_street(name)
        self._run_ip("-n", router.namespace, "link", "add", "inner", "type", "bridge")
        self._configure(router.namespace, "inner", f"{BEHIND}.1/24")
        _run(Host("", router.namespace).command(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))
        self._run_ip("route", "add", f"{BEHIND}.0/24", "via", router.address)
        return Edge(self, router.address, router.namespace)

    def behind_edge(self, edge: Edge, name: str) -> Host:
        number = 2 + len(edge.hosts)
        host, device = Host(f"{BEHIND}.{number}", self._namespace(name)), f"inner{number}"
        self._link("eth0", host.namespace, device, edge.namespace)
        self._configure(host.namespace, "eth0", f"{host.address}/24")
        self._run_ip("-n", edge.namespace, "link", "set", device, "master", "inner", "up")
        self._run_ip("-n", host.namespace, "route", "add", "default", "via", f"{BEHIND}.1")
        return host

    def lose(self, host: Host, percent: int) -> None:
        """So many of a hundred datagrams that come to this host do not arrive."""
        self.rule(host.namespace, _LOSS.format(percent=percent))

    def rule(self, namespace: str, rules: str) -> None:
        """Have nft do this there."""
        _run(Host("", namespace).command([self._nft, "-f", "-"]), rules)

    def cut(self, host: Host, *addresses: str) -> None:
        """No packet passes between this host and these addresses any more; whoever sends hears nothing of it."""
        self._cuts.setdefault(host.namespace, []).extend(addresses)
        self.rule(host.namespace, _CUT.format(addresses=", ".join(self._cuts[host.namespace])))
        for address in addresses:  # a rule against what goes would tell whoever sends: EPERM
            self._neighbour(host.namespace, "replace", address, "lladdr", _NOBODY, "nud", "permanent")

    def heal(self) -> None:
        """All is as if nothing had been cut."""
        for namespace, addresses in self._cuts.items():
            self.rule(namespace, "delete table ip cut")
            for address in addresses:
                self._neighbour(namespace, "delete", address)
        self._cuts.clear()

    def close(self) -> None:
        """Give everything back. Who still runs there runs on without a network."""
        for device in reversed(self._devices):
            subprocess.run([self._ip, "link", "delete", device], check=False, capture_output=True)
        for namespace in self._namespaces:
            subprocess.run([self._ip, "netns", "delete", namespace], check=False, capture_output=True)
        self._devices.clear()
        self._namespaces.clear()
        self._cuts.clear()

    # How it is made

    def _pave(self) -> None:
        taken = _run([self._ip, "-4", "-o", "address"])
        numbers = (1 + (os.getpid() + each) % 254 for each in range(254))
        street = next(f"{STREETS}.{number}" for number in numbers if f" {STREETS}.{number}." not in taken)
        self._street = ipaddress.ip_network(f"{street}.0/24")
        self._run_ip("link", "add", self._name, "type", "bridge")
        self._devices.append(self._name)
        self._run_ip("address", "add", f"{street}.1/24", "dev", self._name)
        self._run_ip("link", "set", self._name, "up")
        self.here = Host(f"{street}.1")

    def _namespace(self, name: str) -> str:
        namespace = f"{self._name}-{name}"
        self._run_ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        self._run_ip("-n", namespace, "link", "set", "lo", "up")
        return namespace

    def _on_the_street(self, name: str) -> Host:
        namespace = self._namespace(name)
        self._last += 1
        host, device = Host(str(self._street[self._last]), namespace), f"{self._name}h{self._last}"
        self._run_ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", device)
        self._devices.append(device)
        self._run_ip("link", "set", device, "master", self._name, "up")
        self._configure(namespace, "eth0", f"{host.address}/24")
        return host

    def _link(self, device: str, namespace: str, other: str, there: str) -> None:
        self._run_ip("-n", namespace, "link", "add", device, "type", "veth", "peer", "name", other, "netns", there)

    def _configure(self, namespace: str, device: str, address: str) -> None:
        self._run_ip("-n", namespace, "address", "add", address, "dev", device)
        self._run_ip("-n", namespace, "link", "set", device, "up")

    def _neighbour(self, namespace: str, act: str, address: str, *more: str) -> None:
        self._run_ip("-n", namespace, "neighbour", act, address, *more, "dev", "eth0")

    def _run_ip(self, *arguments: str) -> None:
        _run([self._ip, *arguments])

    def _sweep(self) -> None:
        """What runs have left that were killed."""
        for name in re.findall(r"^\d+: (bt(\d+)(?:h\d+)?)[:@]", _run([self._ip, "-o", "link"]), re.MULTILINE):
            if not is_alive(int(name[1])):
                subprocess.run([self._ip, "link", "delete", name[0]], check=False, capture_output=True)
        for place in _PLACES.glob("bt*-*") if _PLACES.is_dir() else ():
            owner = re.match(r"bt(\d+)-", place.name)
            if owner is not None and not is_alive(int(owner.group(1))):
                subprocess.run([self._ip, "netns", "delete", place.name], check=False, capture_output=True)


def _run(command: Sequence[str], text: str = "") -> str:
    done = subprocess.run(list(command), input=text, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{text}"
    return done.stdout


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _may_make_namespaces() -> bool:
    """Asked of a child, which takes the namespace with it."""
    asked = subprocess.run([find_program("unshare"), "--net", "true"], check=False, capture_output=True, timeout=20)
    return os.getuid() == 0 and asked.returncode == 0
