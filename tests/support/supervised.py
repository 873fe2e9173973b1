"""A process that keeps children alive, for tests of `bridge.children`: its specs come as JSON, its lines leave as JSON.

python -m tests.support.supervised '[{"name": "a", "script": "sleep 60", ...}]'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bridge.children import SIGNALS, Children, ChildSpec, say_to_stderr


def _spec(fields: dict[str, Any]) -> ChildSpec:
    command = ("/bin/sh", "-c", fields.pop("script")) if "script" in fields else tuple(fields.pop("command"))
    ready_file = fields.pop("ready_file", None)
    final = fields.pop("final_codes", ())
    if ready_file is not None:
        fields["is_ready"] = Path(ready_file).exists
    return ChildSpec(command=command, final_codes=frozenset(final), **fields)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    specs = [_spec(fields) for fields in json.loads(sys.argv[1])]
    say = say_to_stderr(level="info", as_json=True)
    say("info", "supervising", pid=os.getpid())
    sys.exit(Children(specs, say=say).run())
