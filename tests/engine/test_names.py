"""Names that find their call, and names that only pretend to."""

from __future__ import annotations

import pytest

from bridge.engine.names import Names

NAMES = Names(secret=b"s" * 32, node_id="n1")
CALL = NAMES.inbound_call("abc@host", "from-1", 1)
TAG = NAMES.tag(CALL)


def test_an_id_is_one_and_the_same_for_everything_that_names_the_invite() -> None:
    assert NAMES.inbound_call("abc@host", "from-1", 1) == CALL
    assert Names(secret=b"s" * 32, node_id="n2").inbound_call("abc@host", "from-1", 1) == CALL
    assert len(CALL) == len("call_") + 24


@pytest.mark.parametrize(
    ("sip_call_id", "from_tag", "sequence"),
    [("abd@host", "from-1", 1), ("abc@host", "from-2", 1), ("abc@host", "from-1", 2), ("abc@host|from", "-1", 1)],
)
def test_another_invite_has_another_id(sip_call_id: str, from_tag: str, sequence: int) -> None:
    assert NAMES.inbound_call(sip_call_id, from_tag, sequence) != CALL


def test_parts_cannot_be_shifted_from_one_field_into_the_next() -> None:
    assert NAMES.inbound_call("a", "b|c", 1) != NAMES.inbound_call("a|b", "c", 1)


def test_an_id_cannot_be_foretold_without_the_secret() -> None:
    assert Names(secret=b"t" * 32, node_id="n1").inbound_call("abc@host", "from-1", 1) != CALL


def test_bytes_that_are_no_utf8_name_a_call_too() -> None:
    assert NAMES.inbound_call("abc\udcff@host", "from-1", 1) != CALL


def test_a_tag_names_its_call_at_every_node() -> None:
    assert NAMES.call_of_tag(TAG) == CALL
    assert Names(secret=b"s" * 32, node_id="n2").call_of_tag(TAG) == CALL


@pytest.mark.parametrize(
    "forged",
    [
        None,
        "",
        TAG[:-1],
        TAG + "a",
        ("a" if TAG[0] != "a" else "b") + TAG[1:],
        TAG[:-1] + ("a" if TAG[-1] != "a" else "b"),
        TAG.upper(),
        "ä" + TAG[1:],
        "\udcff" + TAG[1:],
        "a" * len(TAG),
    ],
)
def test_a_forged_tag_names_nothing(forged: str | None) -> None:
    assert NAMES.call_of_tag(forged) is None


def test_a_tag_of_another_cluster_names_nothing() -> None:
    assert Names(secret=b"t" * 32, node_id="n1").call_of_tag(TAG) is None


def test_branches_name_their_call_and_are_all_different() -> None:
    first, second = NAMES.branch(CALL, 1), NAMES.branch(CALL, 2)
    assert first != second
    assert first.startswith("z9hG4bK")
    assert NAMES.call_of_branch(first) == NAMES.call_of_branch(second) == CALL


@pytest.mark.parametrize("branch", [None, "", "z9hG4bK", "z9hG4bK-c1-1-INVITE", TAG])
def test_a_branch_that_is_not_ours_names_nothing(branch: str | None) -> None:
    assert NAMES.call_of_branch(branch) is None


def test_a_conversation_is_named_after_the_call_that_began_it() -> None:
    conversation = NAMES.conversation_of(CALL)
    assert conversation == "conv_" + CALL[5:]


def test_names_are_of_letters_that_every_system_takes() -> None:
    assert set(CALL[5:] + TAG) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_whoever_has_the_call_knows_its_tag_without_the_secret() -> None:
    assert NAMES.call_claimed_by(TAG) == CALL
    assert NAMES.matches(TAG, TAG)
    assert NAMES.matches(Names(secret=b"s" * 32, node_id="n2").tag(CALL), TAG)  # the hint may be another node's


@pytest.mark.parametrize(
    "tag", ["", "x", TAG + "a", TAG[:-1], TAG[:-1] + ("a" if TAG[-1] != "a" else "b"), "ä" + TAG[1:]]
)
def test_a_forged_tag_is_not_the_real_one(tag: str) -> None:
    assert not NAMES.matches(tag, TAG)
