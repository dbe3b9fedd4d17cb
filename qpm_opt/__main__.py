"""The command ``qpm``, also as ``python -m qpm_opt``: ready to be interrupted from the start.

Little is imported here: an interrupt while the rest loads must end like one while it works.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; a request to terminate (SIGTERM) is treated like Ctrl-C."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        from qpm_opt import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(1)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
