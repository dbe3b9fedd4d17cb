"""Runs that go wrong, in the place of ``qpm_bench.child``; the seed says how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from qpm_bench.watch import BEGUN

HANG, GARBAGE, CRASH, MEMORY, FAIL, SILENT, CHILDREN, ORPHAN, LIST, NAN, FIELD, LATE = range(12)


def main() -> None:
    job, outcome = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    kind = job["seed"]
    if kind != LATE:
        (outcome.parent / BEGUN).touch()
    if kind in (HANG, LATE):
        time.sleep(60)
    elif kind == GARBAGE:
        sys.stdout.write("{" * 100_000)
        outcome.write_text("{not json")
    elif kind == CRASH:
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == MEMORY:
        held = [bytes(range(256)) * 4096 * 400]
        time.sleep(60)
        del held
    elif kind == FAIL:
        raise RuntimeError("the reason")
    elif kind == CHILDREN:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
            (Path(job["problem"]).parent / "child").write_text(str(child.pid))
            child.wait()
    elif kind == ORPHAN:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (Path(job["problem"]).parent / "child").write_text(str(child.pid))
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == LIST:
        outcome.write_text("[1]")
    elif kind == NAN:
        outcome.write_text('{"status": "OK", "objective": NaN}')
    elif kind == FIELD:
        outcome.write_text('{"status": "OK", "unknown": 1}')


if __name__ == "__main__":
    main()
