"""What waits for a node: in order, bounded, and not for long."""

from __future__ import annotations

from bridge.cluster.waiting import Waiting


def queue(most_bytes: int = 100) -> tuple[Waiting, list[str]]:
    dropped: list[str] = []
    return Waiting(most_bytes=most_bytes, most_s=2.0, dropped=dropped.append), dropped


def test_what_waits_leaves_in_order_and_in_pieces_that_can_be_written() -> None:
    waiting, dropped = queue()
    for payload in (b"a" * 30, b"b" * 30, b"c" * 30):
        assert waiting.put(payload, now=0.0)
    assert waiting.take(40, now=1.0) == [b"a" * 30, b"b" * 30]
    assert waiting.take(1, now=1.0) == [b"c" * 30]
    assert waiting.take(1, now=1.0) == []
    assert dropped == []


def test_what_finds_no_room_is_dropped_and_what_leaves_makes_some() -> None:
    waiting, dropped = queue()
    assert waiting.put(b"a" * 60, now=0.0)
    assert not waiting.put(b"b" * 60, now=0.0)
    assert waiting.put(b"c" * 40, now=0.0)
    assert dropped == ["cluster_queue_full"]
    waiting.take(1, now=0.0)
    assert waiting.put(b"d" * 60, now=0.0)


def test_what_is_too_old_does_not_leave() -> None:
    waiting, dropped = queue()
    waiting.put(b"old", now=0.0)
    waiting.put(b"new", now=1.5)
    assert waiting.take(100, now=2.5) == [b"new"]
    assert dropped == ["cluster_stale"]


def test_what_is_too_old_makes_room_though_nobody_takes_it() -> None:
    waiting, dropped = queue()
    waiting.put(b"a" * 60, now=0.0)
    waiting.put(b"b" * 40, now=1.0)
    waiting.expire(now=2.5)
    assert dropped == ["cluster_stale"]
    assert waiting.put(b"c" * 60, now=2.5)
    assert len(waiting) == 2


def test_one_kind_is_taken_out_and_the_rest_keeps_its_order() -> None:
    waiting, dropped = queue()
    for payload in (b"\1" + b"a" * 29, b"\3" + b"b" * 29, b"\1" + b"c" * 29):
        waiting.put(payload, now=0.0)
    waiting.remove(3)
    assert waiting.put(b"\1" + b"d" * 39, now=0.0)
    assert [each[1:2] for each in waiting.take(1000, now=0.0)] == [b"a", b"c", b"d"]
    assert dropped == []


def test_all_of_it_can_go() -> None:
    waiting, dropped = queue()
    waiting.put(b"a" * 60, now=0.0)
    waiting.drop("cluster_wrong_node")
    assert (len(waiting), dropped) == (0, ["cluster_wrong_node"])
    assert waiting.put(b"b" * 100, now=0.0)
