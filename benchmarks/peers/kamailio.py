"""Kamailio as a peer of REGISTER and OPTIONS: a C registrar with a digest, one write to Redis and one POST for each renewal.

What it leaves out: its POST is not signed, not stored before it leaves, not repeated and not in order; its bindings are those in its own
memory, of which Redis only gets a copy. So its figures are a floor of what the work costs, not a like for like.
Wanted of Debian: `kamailio`, `kamailio-redis-modules` and `kamailio-utils-modules`.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from benchmarks.phones import PASSWORD, REALM
from benchmarks.processes import BenchmarkError, Process, Role, children_of
from benchmarks.stacks import SIP_PORT, Stack, Variant, answers_options, roles_of, start_surroundings

NAME = "kamailio"
WORKERS = 4
MODULES = ("tm", "sl", "rr", "pv", "textops", "siputils", "usrloc", "registrar", "auth", "ndb_redis", "http_client")
_PACKAGES = "kamailio kamailio-redis-modules kamailio-utils-modules"

_CONFIG = """\
debug=0
log_stderror=yes
fork=yes
children={workers}
listen=udp:{host}:{port}
alias="{realm}"
auto_aliases=no
dns=no
rev_dns=no
mpath="{modules}"
{loading}
modparam("usrloc", "db_mode", 0)
modparam("registrar", "method_filtering", 0)
modparam("auth", "qop", "auth")
modparam("auth", "algorithm", "MD5")
modparam("auth", "nonce_count", 1)
modparam("auth", "nonce_expire", 300)
modparam("ndb_redis", "server", "name=state;addr={host};port={redis_port};db=0")
modparam("http_client", "keep_connections", 1)

request_route {{
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (!is_method("REGISTER")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
    if (!pv_www_authenticate("{realm}", "{password}", "0")) {{ www_challenge("{realm}", "1"); exit; }}
    redis_cmd("state", "HSET reg:%s contact %s cseq %s", "$tu", "$ct", "$cs", "written");
    if (!save("location")) {{ sl_reply_error(); exit; }}
    http_client_query("{webhook_url}",
        "{{\\"type\\": \\"registration.refreshed\\", \\"aor\\": \\"$tu\\", \\"call_id\\": \\"$ci\\", \\"source\\": \\"$si\\"}}",
        "Content-Type: application/json", "$var(told)");
}}
"""


def start_kamailio(ends: ExitStack, directory: Path, variant: Variant) -> Stack:
    """Ready for REGISTERs. BenchmarkError says what is not installed."""
    binary = shutil.which(NAME) or shutil.which(NAME, path="/usr/sbin")
    modules = next((place for place in Path("/usr/lib").glob("*/kamailio/modules") if (place / "tm.so").exists()), None)
    if binary is None or modules is None or not all((modules / f"{name}.so").exists() for name in MODULES):
        raise BenchmarkError(f"kamailio: not all of it is installed (`apt-get install {_PACKAGES}`): not measured")
    place, processes = start_surroundings(ends, directory, variant)
    text = _CONFIG.format(
        workers=WORKERS,
        host=place.host,
        port=SIP_PORT,
        realm=REALM,
        password=PASSWORD,
        modules=modules,
        loading="\n".join(f'loadmodule "{name}.so"' for name in MODULES),
        redis_port=place.redis_port,
        webhook_url=place.webhook_url,
    )
    (directory / "kamailio.cfg").write_text(text)
    command = [binary, "-DD", "-E", "-f", "kamailio.cfg", "-w", str(directory), "-Y", str(directory)]
    kamailio = Process(NAME, [*command, "-P", str(directory / "pid"), "-m", "128", "-M", "8"], directory=directory)
    ends.callback(kamailio.end)
    kamailio.await_ready(lambda: answers_options(place.host))
    role = Role("signalling", (kamailio.pid, *children_of(kamailio.pid)))
    return Stack(NAME, place.host, directory, [*processes, kamailio], (role, *roles_of(processes)))
