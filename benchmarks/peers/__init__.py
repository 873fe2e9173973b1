"""Peers: other people's SIP stacks doing the same work, in the same table.

Each is the smallest honest program on that stack which keeps what our figures pay for: three signed webhooks per call, in
order, each stored in Redis before it leaves; the answer only after the first one's reply; the final record kept.
None keeps our other promises (fencing, takeover, retries): their figures are what the work costs without them.
A peer's packages live in a directory of their own (`.venv/peers`), never among ours.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.processes import BenchmarkError

PACKAGES = {"sippy_answering": ("sippy>=2.4",)}
INSTALL_S = 180.0


def install(name: str, root: Path) -> Path:
    """Where the peer's packages are, installed now if they are not. BenchmarkError says why they cannot be."""
    library = root / ".venv" / "peers" / name
    if not library.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(library), *PACKAGES[name]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{name}: pip did not finish within {INSTALL_S:g} s") from None
        if done.returncode:
            raise BenchmarkError(f"{name} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return library
