"""A call that another node carries on: new ports there, then a re-INVITE with that node's Contact and SDP (survival §4.4).

From the far end's answer on its BYE comes to us, and so does what it says. Only an answered call can be asked; one that
still waits for its ACK is asked once that has come. What stands in the way for a while (a transaction of the dead node, a
far end that does not answer) is waited for: only the far end, or its silence, ends the call.
"""

from __future__ import annotations

from bridge.calls.call import Call, Phase
from bridge.calls.effects import ArmTimer, CallTimer
from bridge.calls.ending import hang_up
from bridge.calls.events import CallRecovered
from bridge.calls.facts import Move
from bridge.calls.reoffering import begin_move

_AGAIN_S = 2.0  # after an answer that says "not now"
_SILENT_AGAIN_S = 15.0  # after none: its RTP, if it sends any, keeps the call meanwhile
_LATER = frozenset({491, 500, 503})  # a transaction of the dead node is pending there (§14.1, §14.2)
_GONE = 481  # the far end knows of no such call (§12.2.1.2)
_SILENT = 408


def carried_on(call: Call, move: Move) -> None:
    """The ports that it had at its former node are not there any more."""
    call.move = move
    call.video_wanted, call.video_port = call.video_port is not None, None
    call.media_open = False
    go_on(call)


def go_on(call: Call) -> None:
    """Whatever comes first: ports, or the re-INVITE that tells of them. Nothing before the call is answered."""
    if call.move is None or call.phase is not Phase.ANSWERED or (call.reoffer is not None and call.reoffer.sent):
        return
    if not call.media_open:
        call.open_media(video=call.video_wanted)
    elif call.has_ports:
        call.media_generation += 1
        call.set_media()  # a far end that is told in vain may be heard all the same
        begin_move(call)


def no_media(call: Call, *, now: float) -> None:
    """There is no port left here."""
    hang_up(call, "node", "node_lost", now=now)


def arrived(call: Call, *, now: float) -> None:
    """A re-INVITE of ours was answered: the far end has taken us for the other end."""
    move, call.move = call.move, None
    if move is not None and not call.is_over:
        call.emit(CallRecovered(move.former, move.present, max(0.0, now - move.silent_since)))


def refused(call: Call, code: int, *, now: float) -> bool:
    """Whether this refusal concerned the move, and has been dealt with."""
    under_way = call.reoffer
    if call.move is None or under_way is None or call.is_over:
        return False
    if code in _LATER or code == _SILENT:
        under_way.sent = False
        call.out.append(ArmTimer(CallTimer.GLARE, _SILENT_AGAIN_S if code == _SILENT else _AGAIN_S))
        return True
    call.reoffer = None
    if code == _GONE:
        hang_up(call, "network", "unreachable", now=now)
    else:
        hang_up(call, "node", "node_lost", now=now)  # it goes on sending to where nobody is
    return True
