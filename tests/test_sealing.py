"""What the store has of a secret: nothing that anybody could use without the cluster's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ambient import SystemTokens
from bridge.sealing import ClusterSeal

SECRET = b"the secret of a cluster"
PASSWORD = "correct horse battery staple"


def seal(secret: bytes = SECRET) -> ClusterSeal:
    return ClusterSeal(secret, SystemTokens())


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=256))
def test_what_is_sealed_is_unsealed_by_any_node_with_the_secret(text: str) -> None:
    assert seal().unseal(seal().seal(text)) == text


def test_a_sealed_text_is_ascii_and_tells_nothing() -> None:
    sealed = seal().seal(PASSWORD)
    assert sealed.isascii()
    assert sealed.isprintable()
    assert not any(word in sealed for word in PASSWORD.split())
    assert len(sealed) < len(PASSWORD) * 4 / 3 + 48


def test_the_same_secret_is_sealed_otherwise_each_time() -> None:
    one = seal()
    assert len({one.seal(PASSWORD) for _ in range(100)}) == 100


def test_another_secret_unseals_nothing() -> None:
    assert seal(b"another").unseal(seal().seal(PASSWORD)) is None


@pytest.mark.parametrize("damaged", ["", "1.", "2.abcd", PASSWORD, "1.é", "1.AAAA", "1.a", "1." + "A" * 64])
def test_what_nobody_has_sealed_is_no_secret(damaged: str) -> None:
    assert seal().unseal(damaged) is None


def test_a_change_of_one_character_is_noticed() -> None:
    sealed = seal().seal(PASSWORD)
    for place in range(2, len(sealed) - 4):
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        assert seal().unseal(changed) is None, place
