"""In the place of ``qpm_bench.child``: claims more than its certificate proves."""

from __future__ import annotations

import json
from pathlib import Path

from qpm_bench import child
from qpm_opt import Result

save = Result.save


def save_less(result, path, problem):
    save(result, path, problem)
    record = json.loads(Path(path).read_text())
    record["bound"] -= 0.25 * (record["bound"] - record["objective"]) + 1e-3
    Path(path).write_text(json.dumps(record))


if __name__ == "__main__":
    Result.save = save_less
    child.main()
