"""`python -m bridge`: the same as the `sip-bridge` command."""

from __future__ import annotations

from bridge.cli import main

if __name__ == "__main__":
    main(prog_name="sip-bridge")
