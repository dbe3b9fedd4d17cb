"""Tables of the records, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def choice_table(records: Sequence[dict[str, Any]]) -> str:
    """Coverage, boundaries and agreement of both methods."""
    rows = []
    for record in records:
        for part in record["choices"]:
            by_method = {
                method: [row for row in part["rows"] if row["method"] == method]
                for method in ("greedy", "exact")
            }
            best = np.array([row["n_covered"] for row in by_method["exact"]], float)
            for method, found in by_method.items():
                covered = np.array([row["n_covered"] for row in found], float)
                n_same = np.array([row["n_same"] for row in found], float)
                unseen = sum(row["unseen_n_covered"] for row in found)
                agreeing = sum(row["unseen_n_agreeing"] for row in found)
                of_class = sum(row["unseen_n_class"] for row in found)
                seconds = [row["seconds"] for row in found]
                rows.append(
                    [
                        record["dataset"],
                        part["sampling"],
                        str(len(found)),
                        method,
                        f"{np.mean([row['proved'] for row in found]):.0%}",
                        f"{np.median(seconds):.2f} / {np.max(seconds):.2f}",
                        f"{np.mean(covered / n_same):.1%}",
                        f"{np.mean(covered / best):.1%} ({np.min(covered / best):.0%})",
                        f"{np.mean([row['n_boundaries'] for row in found]):.1f}",
                        f"{agreeing / of_class:.1%}" if of_class else "-",
                        f"{agreeing / unseen:.1%}" if unseen else "-",
                    ]
                )
    head = (
        "data",
        "sampling",
        "images",
        "method",
        "proved",
        "seconds, median / longest",
        "of the class covered",
        "of the optimum (least)",
        "boundaries",
        "of the class covered, unseen",
        "agreement, unseen",
    )
    return _table(head, rows)


def heat_map_table(records: Sequence[dict[str, Any]]) -> str:
    """Average Drop and Increase, mean and deviation over the runs."""
    rows = []
    for record in records:
        groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for part in record["heat_maps"]:
            groups.setdefault((part["sampling"], part["n_inputs"]), []).append(part)
        for (sampling, n_inputs), parts in groups.items():
            for name in parts[0]["scores"]:
                values = [part["scores"][name] for part in parts]
                cells = [record["dataset"], sampling, str(n_inputs), name]
                for key in ("average_drop", "average_increase"):
                    each = [100 * value[key] for value in values]
                    cells.append(f"{np.mean(each):.2f} ± {np.std(each):.2f}")
                rows.append(cells)
    head = (
        "data",
        "sampling",
        "inputs",
        "method",
        "mAD in %, low is good",
        "mAI in %, high is good",
    )
    return _table(head, rows)
