"""In the place of ``qpm_bench.child``: no solver is installed."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[2]).write_text('{"status": "MISSING", "reason": "no such package"}')
