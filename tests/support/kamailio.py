"""Kamailio as what stands in front of many a SIP service, or of the phones: a stateful proxy that stays on the route (§16.6
step 4)."""

from __future__ import annotations

from pathlib import Path

from tests.support.caller import Caller
from tests.support.programs import PORTS, Program, find_program, tail
from tests.support.waiting import until_awaited

_CONFIG = """\
debug=1
log_stderror=yes
fork=yes
children=2
listen=udp:127.0.0.1:{port}
auto_aliases=no
dns=no
rev_dns=no
mpath="{modules}"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("OPTIONS") && !has_totag()) {{ sl_send_reply("200", "Here"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    t_check_trans();
    record_route();
    $du = "sip:127.0.0.1:{target}";
    t_relay();
}}
"""

PROBE = (
    "OPTIONS sip:127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport\nMax-Forwards: 70\n"
    "From: <sip:tests@127.0.0.1>;tag={tag}\nTo: <sip:127.0.0.1>\nCall-ID: {call_id}\nCSeq: 1 OPTIONS\n"
    "Content-Length: 0\n\n"
)


class Kamailio:
    """Passes everything on to 127.0.0.1:`target`."""

    def __init__(self, directory: Path, target: int) -> None:
        self.port = PORTS.one()
        self._directory = directory
        self._target = target
        self._program: Program | None = None

    async def start(self) -> None:
        directory = self._directory
        directory.mkdir(parents=True)
        binary = find_program("kamailio")
        (directory / "kamailio.cfg").write_text(_CONFIG.format(port=self.port, target=self._target, modules=_modules()))
        command = [binary, "-DD", "-E", "-f", "kamailio.cfg", "-w", str(directory), "-Y", str(directory)]
        command += ["-P", str(directory / "pid"), "-m", "32", "-M", "4"]
        program = self._program = Program(command, output=directory / "output", directory=directory)
        caller = Caller(("127.0.0.1", self.port))
        await caller.open()

        async def answers() -> bool:
            assert program.code() is None, tail(directory / "output")
            caller.send(
                PROBE.replace("\n", "\r\n").format(port=caller.port, branch="z9hG4bKp", tag="p", call_id="probe")
            )
            return bool(caller.strays)

        try:
            await until_awaited(answers, "Kamailio answers")
        finally:
            caller.close()

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()


def _modules() -> Path:
    places = [*Path("/usr/lib").glob("*/kamailio/modules"), Path("/usr/lib/kamailio/modules")]
    found = next((place for place in places if (place / "tm.so").exists()), None)
    assert found is not None, f"Kamailio's modules are not in {places}"
    return found
