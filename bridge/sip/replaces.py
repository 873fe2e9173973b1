"""Replaces (RFC 3891): a dialog named so that a new call may take its place.

Tags are named as whoever receives the header sees them: `to-tag` is its own, `from-tag` the far end's (§3). Refuses to know
who may replace whom.
"""

from __future__ import annotations

from urllib.parse import quote

from bridge.sip.dialog import Dialog


def replaces_of(dialog: Dialog) -> str:
    """The header's value that names our dialog to its far end, who is to be called in our place."""
    return f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"


def with_replaces(uri: str, replaces: str) -> str:
    """The URI that asks for an INVITE with this Replaces (RFC 3261 §19.1.1): what delimits there is escaped."""
    return f"{uri}?Replaces={quote(replaces, safe='')}"
