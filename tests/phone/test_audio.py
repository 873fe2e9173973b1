"""What the phone says: G.711 against ITU-T's own arithmetic, RTP's numbers against RFC 3550, and what it counts."""

from __future__ import annotations

import asyncio
import socket
import struct
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import accumulate

import pytest

from bridge.phone.audio import Audio, Law, a_law, mu_law, tone


def decision_values(first: list[int], *, segments: int, unit: int) -> list[int]:
    """G.711's decision values: the widths of the first intervals, then 16 in each segment, twice as wide as before."""
    widths, width = list(first), first[-1]
    for _ in range(segments):
        width *= 2
        widths += [width] * 16
    return [unit * value for value in accumulate(widths, initial=0)]


# Tables 2a and 1a of the recommendation: 14 bits for µ-law, 13 for A-law; samples here have 16.
MU_LAW = decision_values([1, *[2] * 15], segments=7, unit=4)
A_LAW = decision_values([2] * 32, segments=6, unit=8)


def mu_law_word(interval: int, *, negative: bool) -> int:
    """What is sent for the n-th interval of one sign: all bits inverted."""
    return (0x7F if negative else 0xFF) - interval


def a_law_word(interval: int, *, negative: bool) -> int:
    """The same for A-law: every other bit inverted."""
    return ((0x00 if negative else 0x80) | interval) ^ 0x55


def mu_law_level(word: int) -> int:
    """Table 2: the level that a µ-law word stands for, in units of 16 bits."""
    word = ~word & 0xFF
    magnitude = ((2 * (word & 0x0F) + 33) << (word >> 4 & 0x07)) - 33
    return (-magnitude if word & 0x80 else magnitude) * 4


def a_law_level(word: int) -> int:
    """Table 1: the level that an A-law word stands for, in units of 16 bits."""
    word ^= 0x55
    step, segment = word & 0x0F, word >> 4 & 0x07
    magnitude = 2 * step + 1 if segment == 0 else (2 * step + 33) << (segment - 1)
    return (magnitude if word & 0x80 else -magnitude) * 8


class TestG711:
    def test_the_tables_end_where_the_recommendation_s_do(self) -> None:
        assert [len(MU_LAW), MU_LAW[-1] // 4, MU_LAW[-17] // 4, MU_LAW[16] // 4] == [129, 8159, 4063, 31]
        assert [len(A_LAW), A_LAW[-1] // 8, A_LAW[-17] // 8, A_LAW[32] // 8] == [129, 4096, 2048, 64]

    @pytest.mark.parametrize(
        ("encode", "values", "word"), [(mu_law, MU_LAW, mu_law_word), (a_law, A_LAW, a_law_word)], ids=["mu", "A"]
    )
    def test_every_sample_is_sent_as_the_interval_it_lies_in(
        self, encode: Callable[[int], int], values: list[int], word: Callable[..., int]
    ) -> None:
        for sample in range(-32768, 32768):
            # On a decision value either neighbour is right, and the two signs may differ by one.
            near = {min(max(bisect_right(values, abs(sample) + slack) - 1, 0), 127) for slack in (-1, 0, 1)}
            signs = (False, True) if sample == 0 else (sample < 0,)
            assert encode(sample) in {word(n, negative=negative) for n in near for negative in signs}, sample

    def test_silence_and_the_loudest_are_the_words_everybody_knows(self) -> None:
        assert [mu_law(0), mu_law(32767), mu_law(-32768)] == [0xFF, 0x80, 0x00]
        assert [a_law(0), a_law(32767), a_law(-32768)] == [0xD5, 0xAA, 0x2A]

    @pytest.mark.parametrize("law", ["PCMU", "PCMA"])
    def test_a_packet_is_20_ms_of_whole_periods(self, law: Law) -> None:
        said = tone(law)
        assert len(said) == 160
        assert said == said[:20] * 8  # 400 Hz at 8,000 Hz: packets join without a click
        assert len(set(said)) > 5

    def test_the_laws_say_the_same_tone(self) -> None:
        heard = zip(map(mu_law_level, tone("PCMU")), map(a_law_level, tone("PCMA")), strict=True)
        assert max(abs(one - other) for one, other in heard) < 512


class Packet:
    """One RTP packet, read by hand."""

    def __init__(self, data: bytes) -> None:
        first, second, self.sequence, self.timestamp, self.ssrc = struct.unpack("!BBHII", data[:12])
        assert first == 0x80
        self.marker, self.payload_type = bool(second & 0x80), second & 0x7F
        self.payload = data[12:]


class Bench:
    """An `Audio` whose time is moved by hand, and the socket it speaks to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, ear: socket.socket) -> None:
        self.time = 1000.0
        self.ear = ear
        self.audio = Audio(clock=self, ssrc=0x1234FFFF)
        self._wake: Callable[[], None] | None = None
        self._loop, self._real = loop, loop.call_later
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def now(self) -> float:
        return self.time

    def _call_later(self, delay: float, wake: Callable[[], None]) -> asyncio.TimerHandle:
        self._wake, self.delay = wake, delay
        return self._real(3600.0, wake)

    def speak(self, *, payload_type: int = 0, law: Law = "PCMU") -> None:
        host, port = self.ear.getsockname()
        self.audio.speak(host, port, payload_type=payload_type, law=law)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and wake whoever wanted that."""
        self.time += seconds
        assert self._wake is not None
        self._wake()

    def hear(self) -> Packet:
        return Packet(self.ear.recv(2048))


@pytest.fixture
def ear() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(10.0)
        yield ear


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch, ear: socket.socket) -> AsyncIterator[Bench]:
    bench = Bench(asyncio.get_running_loop(), monkeypatch, ear)
    await bench.audio.open("127.0.0.1")
    yield bench
    bench.audio.close()


class TestRtp:
    async def test_its_port_is_even(self, bench: Bench) -> None:
        assert bench.audio.port % 2 == 0

    async def test_each_packet_is_one_further_and_20_ms_later(self, bench: Bench) -> None:
        bench.speak()
        first = bench.hear()
        assert (first.ssrc, first.payload_type, first.payload) == (0x1234FFFF, 0, tone("PCMU"))
        for number in range(1, 4):
            assert bench.delay == pytest.approx(0.02)
            bench.pass_time(0.02)
            packet = bench.hear()
            assert packet.sequence == (first.sequence + number) & 0xFFFF
            assert packet.timestamp == first.timestamp + 160 * number
            assert packet.ssrc == first.ssrc
        assert first.sequence == 0xFFFF  # so it went through zero
        assert bench.audio.sent == 4

    async def test_only_the_first_of_a_talkspurt_is_marked(self, bench: Bench) -> None:
        bench.speak()
        bench.pass_time(0.02)
        assert [bench.hear().marker, bench.hear().marker] == [True, False]

    async def test_who_is_late_makes_up_for_it(self, bench: Bench) -> None:
        bench.speak()
        bench.pass_time(0.025)
        assert bench.delay == pytest.approx(0.015)

    async def test_a_pause_is_time_that_passes_for_the_stream(self, bench: Bench) -> None:
        bench.speak()
        before = bench.hear()
        bench.audio.stop()
        bench.time += 1.02
        bench.speak()
        after = bench.hear()
        assert after.sequence == (before.sequence + 1) & 0xFFFF
        assert after.timestamp == before.timestamp + 8160
        assert after.marker

    async def test_who_was_held_up_leaves_out_what_nobody_heard(self, bench: Bench) -> None:
        bench.speak()
        before = bench.hear()
        bench.pass_time(60.0)
        after = bench.hear()
        assert after.timestamp == before.timestamp + 480_000
        assert bench.delay == pytest.approx(0.02)
        assert bench.audio.sent == 2

    async def test_the_session_s_number_stands_for_its_law(self, bench: Bench) -> None:
        bench.speak(payload_type=98, law="PCMA")
        packet = bench.hear()
        assert (packet.payload_type, packet.payload) == (98, tone("PCMA"))

    async def test_speaking_to_somebody_else_does_not_begin_anew(self, bench: Bench) -> None:
        bench.speak()
        bench.speak(payload_type=8, law="PCMA")
        bench.pass_time(0.02)
        first, second = bench.hear(), bench.hear()
        assert second.sequence == (first.sequence + 1) & 0xFFFF
        assert (second.payload_type, second.marker) == (8, False)
        assert bench.audio.sent == 2

    async def test_after_the_end_nothing_is_sent(self, bench: Bench) -> None:
        bench.speak()
        bench.audio.close()
        bench.pass_time(0.02)
        bench.speak()
        assert bench.audio.sent == 1


async def test_what_it_hears_is_counted_and_told(ear: socket.socket) -> None:
    news = asyncio.Event()

    class Still:
        def now(self) -> float:
            return 1.0

    audio = Audio(clock=Still(), ssrc=1, heard=news.set)
    await audio.open("127.0.0.1")
    try:
        for data in (
            b"no RTP",
            *(struct.pack("!BBHII", 0x80, 0, number, 160 * number, 9) + b"\xff" for number in (1, 3)),
        ):
            ear.sendto(data, ("127.0.0.1", audio.port))
        async with asyncio.timeout(10.0):
            while audio.quality.packets_received < 2:
                await news.wait()
                news.clear()
        assert (audio.quality.packets_received, audio.quality.packets_lost) == (2, 1)
    finally:
        audio.close()
