"""Replaces (RFC 3891): a dialog named so that a new call may take its place.

Tags are named as whoever receives the header sees them: `to-tag` is its own, `from-tag` the far end's (§3). Refuses to know
who may replace whom.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from bridge.sip.dialog import Dialog

EXTENSION = "replaces"  # its option tag (§6.2)
_LONGEST = 1024  # characters: what no dialog is called need not be read
_NEVER = frozenset(' ",;')  # in a Call-ID or a tag (§25.1); `=` should not either, and some tags are base64


@dataclass(frozen=True, slots=True)
class Replaces:
    """A dialog, named to whoever has one end of it (§6.1)."""

    call_id: str
    to_tag: str  # of whoever receives this
    from_tag: str  # of the far end
    early_only: bool = False

    def __str__(self) -> str:
        """The header's value."""
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


def parse_replaces(value: str) -> Replaces | None:
    """The header's value; None where it is malformed: each tag has to be there, once."""
    call_id, *parameters = [each.strip() for each in value.split(";")]
    if not _is_word(call_id) or len(value) > _LONGEST:
        return None
    found: dict[str, str] = {}
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        name = name.strip().lower()
        if name in found:
            return None
        found[name] = text.strip()
    to_tag, from_tag = found.get("to-tag", ""), found.get("from-tag", "")
    if not _is_word(to_tag) or not _is_word(from_tag):
        return None
    return Replaces(call_id, to_tag, from_tag, "early-only" in found)


def _is_word(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and not _NEVER.intersection(text)


def replaces_of(dialog: Dialog) -> str:
    """The header's value that names our dialog to its far end, who is to be called in our place."""
    return f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"


def with_replaces(uri: str, replaces: str) -> str:
    """The URI that asks for an INVITE with this Replaces (RFC 3261 §19.1.1): what delimits there is escaped."""
    return f"{uri}?Replaces={quote(replaces, safe='')}"
