"""Three nodes: what each is told, whose costs are one column, and the balancer before them."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.nodes import linked_config, merge_roles, start_balancer
from benchmarks.processes import BenchmarkError, Process, Role, private_loopback
from benchmarks.programs import compile_programs
from benchmarks.stacks import SIP_PORT, Node, Place, Variant, address_in


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_a_node_is_told_what_links_it_to_the_others(tmp_path: Path) -> None:
    place = Place("127.1.1.1", tmp_path, "http://127.1.1.1:3000", "whsec_" + "A" * 32, 6379, Variant(pairs=True))
    config = linked_config(place, "127.1.1.3", None)
    assert config["node_id"] == "node-3"
    assert config["cluster"]["listen"].startswith("127.1.1.3:")
    assert "timeout_s" not in config["media"]  # RTP flows: the default holds
    assert "advertise" not in config["sip"]
    behind = linked_config(place, "127.1.1.3", tmp_path / "balancer")
    assert (behind["sip"]["advertise"], behind["media"]["advertise"]) == ("127.1.1.1:5060", "127.1.1.3")


def test_the_costs_of_all_nodes_are_one_column(tmp_path: Path, ends: ExitStack) -> None:
    process = Process("none", ["true"], directory=tmp_path)
    ends.callback(process.end)
    nodes = [Node("h", process, (Role("signalling", (each,)), Role("media", (each + 1, each + 2)))) for each in (1, 5)]
    assert merge_roles(tuple(nodes)) == (Role("signalling", (1, 5)), Role("media", (2, 3, 6, 7)))


def test_without_a_compiler_there_is_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.programs.shutil.which", lambda _: None)
    with pytest.raises(BenchmarkError, match="W1×3: no C compiler"):
        compile_programs(tmp_path, ("balancer",), measurement="W1×3")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc libc6-dev")
def test_the_balancer_gives_each_datagram_to_the_next_and_brings_answers_back(tmp_path: Path, ends: ExitStack) -> None:
    host = private_loopback()
    hosts = [address_in(host, number) for number in (2, 3, 4)]
    nodes = [ends.enter_context(opened(each, SIP_PORT)) for each in hosts]
    client, other = (ends.enter_context(opened(address_in(host, number), 0)) for number in (8, 9))
    compile_programs(tmp_path, ("balancer",), measurement="W1×3")
    start_balancer(ends, tmp_path, tmp_path / "balancer", host, hosts)
    for number in range(4):
        client.sendto(b"%d" % number, (host, SIP_PORT))
        data, source = nodes[number % 3].recvfrom(100)
        assert (data, source[0]) == (b"%d" % number, client.getsockname()[0])
        nodes[number % 3].sendto(b"to " + data, source)
        assert client.recvfrom(100) == (b"to " + data, (host, SIP_PORT))
    other.sendto(b"mine", (host, SIP_PORT))
    data, source = nodes[1].recvfrom(100)
    nodes[0].sendto(b"whosever node it was", source)
    assert other.recvfrom(100)[0] == b"whosever node it was"


def opened(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(10.0)
    made.bind((host, port))
    return made
