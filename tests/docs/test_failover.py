"""Everything that the page of failover promises to survive is shown by a test, in the words of the promise."""

from __future__ import annotations

from tests.docs.pages import page, spans

FAILOVER = page("docs/failover.md")


def test_every_row_of_what_dies_names_its_tests() -> None:
    promised = [row[0] for row in FAILOVER.table("What dies, and what is seen of it", "dies")]
    shown = FAILOVER.table("How it was shown", "dies")
    assert [what for what, _ in shown] == promised
    for what, tests in shown:  # which exist, as test_links.py sees to
        named = spans(tests)
        assert named, what
        assert all("::test_" in each for each in named), what
