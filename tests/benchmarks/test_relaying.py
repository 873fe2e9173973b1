"""The load of W3 is what it says, and its relays do relay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.peers.rtpengine import bencode
from benchmarks.processes import BenchmarkError
from benchmarks.programs import compile_programs
from benchmarks.relaying import PHONES, PROGRAMS, Relayed, _read, measure_relay, phones_of, relays


def test_every_phone_of_a_call_is_another_place() -> None:
    places = {place for call in range(PHONES // 2) for place in phones_of(call, "127.1.1.2")}
    assert len(places) == PHONES
    assert phones_of(PHONES // 2, "127.1.1.2") == phones_of(0, "127.1.1.2")


def test_what_the_phones_say_at_the_end() -> None:
    assert _read("1000 990 250 4000 7", 0.0099, 3.0) == Relayed(10.0, 1000, 10, 0.25, 4.0, 7, 3.0)
    with pytest.raises(BenchmarkError, match="sendmmsg"):
        _read("sendmmsg: Message too long", 1.0, 3.0)


def test_the_words_of_the_ng_protocol() -> None:
    said = bencode({"sdp": "v=0", "command": "offer", "replace": ["origin"]})
    assert said == b"d7:command5:offer7:replacel6:origine3:sdp3:v=0e"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc libc6-dev")
@pytest.mark.parametrize("name", ["bridge", "bridge, apart", "C"])
def test_phones_hear_each_other(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    compile_programs(tmp_path / "programs", PROGRAMS, measurement="W3")
    run = measure_relay(
        name,
        relays(tmp_path / "programs")[name],
        4,
        seconds=1,
        programs=tmp_path / "programs",
        directory=tmp_path / "run",
        say=said.append,
    )
    assert run.sent == 8 * 50
    assert run.lost < run.sent
    assert len(said) == 1
