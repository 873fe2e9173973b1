"""Names that find their call without an index (survival: "No index of dialogs").

An inbound call's id is derived from what every message of its INVITE carries, so a retransmission, a CANCEL or an ACK
names the same call at any node. Our own tags and branches carry the call's id and a MAC: a forged one dies here, before
anything is looked up.
"""

from __future__ import annotations

import hmac

from bridge.ambient import letters
from bridge.calls.facts import CallId, ConversationId

_ID_LENGTH = 24  # characters of five bits each
_MAC_LENGTH = 13  # 64 bits, and one more
_HINT_LENGTH = 4
_TAG_LENGTH = _ID_LENGTH + _HINT_LENGTH + _MAC_LENGTH
_BRANCH_COOKIE = "z9hG4bK"  # §8.1.1.7


class Names:
    """Makes and recognises the names of one cluster's calls. All nodes share `secret`."""

    __slots__ = ("_hint", "_keyed")

    def __init__(self, *, secret: bytes, node_id: str) -> None:
        self._keyed = hmac.new(secret, digestmod="sha256")  # copied for each name: taking up the key is half its cost
        self._hint = self._derived(b"node" + node_id.encode(), _HINT_LENGTH)

    def inbound_call(self, sip_call_id: str, from_tag: str, sequence: int) -> CallId:
        """The id of the call that this INVITE, its CANCEL and its ACK belong to."""
        # The length keeps ("ab", "c") and ("a", "bc") apart, whatever characters a peer puts into either.
        text = f"{len(sip_call_id)}|{sip_call_id}|{from_tag}|{sequence}"
        return CallId("call_" + self._derived(text.encode("utf-8", "surrogateescape"), _ID_LENGTH))

    def conversation_of(self, call: CallId) -> ConversationId:
        """The conversation that a call is born into: the same name, so that people see what belongs together."""
        return ConversationId("conv_" + call[5:])

    def tag(self, call: CallId) -> str:
        """Our tag in every dialog of this call: its id, a hint at the owner, a MAC."""
        # The hint is outside the MAC: the call moves, its tag does not, and whoever carries it on must know it for ours.
        name = call[5:]
        return f"{name}{self._hint}{self._mac(name)}"

    def branch(self, call: CallId, number: int | str) -> str:
        """A Via branch of a request of ours (§8.1.1.7); `number`, a token, makes it the only one of its call."""
        return self.branch_of(self.tag(call), number)

    @staticmethod
    def branch_of(tag: str, number: int | str) -> str:
        """The same with the tag that the call bears, which another node may have made: whoever repeats a request says this."""
        return f"{_BRANCH_COOKIE}{tag}.{number}"

    def call_of_tag(self, tag: str | None) -> CallId | None:
        """The call that this tag of ours names; None for anything we have not made."""
        if tag is None or len(tag) != _TAG_LENGTH:
            return None
        name = tag[:_ID_LENGTH]
        if not tag.isascii() or not hmac.compare_digest(self._mac(name), tag[-_MAC_LENGTH:]):
            return None
        return CallId("call_" + name)

    @staticmethod
    def call_claimed_by(tag: str) -> CallId:
        """The call that a tag claims to name. Whoever has that call has its real tag, and `matches` tells."""
        return CallId("call_" + tag[:_ID_LENGTH])

    @staticmethod
    def matches(tag: str, real: str) -> bool:
        """Whether this is that tag, whoever's hint it bears: as good as the MAC, where the real one is at hand."""
        mac, known = tag[-_MAC_LENGTH:], real[-_MAC_LENGTH:]
        return len(tag) == _TAG_LENGTH and tag.isascii() and hmac.compare_digest(mac, known)

    @property
    def hint(self) -> str:
        """What our tags say of us."""
        return self._hint

    @staticmethod
    def hint_of(tag: str) -> str:
        """The node that made this tag of ours, which may have let go of its call since."""
        return tag[_ID_LENGTH : _ID_LENGTH + _HINT_LENGTH]

    @classmethod
    def hint_of_branch(cls, branch: str) -> str:
        """The same of a branch of ours."""
        return cls.hint_of(branch[len(_BRANCH_COOKIE) :])

    def cnonce(self, call: CallId, number: str) -> str:
        """A client nonce (RFC 7616 §3.4) that the same request gets again, and that nobody can guess."""
        return self._mac(f"{call}|{number}")

    def mark(self, of: str) -> str:
        """What only we can have written beside this text, in letters that any URI or branch may have."""
        return self._mac(f"mark|{of}")

    def call_of_branch(self, branch: str | None) -> CallId | None:
        """The call whose request bore this branch."""
        if branch is None or not branch.startswith(_BRANCH_COOKIE):
            return None
        return self.call_of_tag(branch[len(_BRANCH_COOKIE) :].split(".", 1)[0])

    def _mac(self, name: str) -> str:
        return self._derived(name.encode("utf-8", "surrogateescape"), _MAC_LENGTH)

    def _derived(self, text: bytes, length: int) -> str:
        """What nobody without the secret can tell from chance, `length` characters of it."""
        keyed = self._keyed.copy()
        keyed.update(text)
        return letters(keyed.digest()[:length])
