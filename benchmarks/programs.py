"""The programs in C of `benchmarks/peers`, compiled at run time: what a load is and what balances it must be cheaper than
what is measured."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import BenchmarkError

SOURCES = Path(__file__).parent / "peers"


def compile_programs(directory: Path, names: Sequence[str], *, measurement: str) -> None:
    """Each into `directory`, for this measurement. BenchmarkError where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchmarkError(f"{measurement}: no C compiler (`apt-get install gcc libc6-dev`): not measured")
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        command = [compiler, "-O2", "-o", str(directory / name), str(SOURCES / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"{measurement}: {name}.c does not compile:\n{done.stderr}")
