"""Whole solves within a time limit: what is found, and what is proved."""

from __future__ import annotations

import pytest

from qpm_bench.records import Status

# The runner kills what does not end at its limit.
pytestmark = pytest.mark.timeout(0)


def test_solve(benchmark, campaign, run):
    """One child process; everything about it but its time goes to ``extra_info``."""

    def execute():
        record = campaign.execute(run)
        if record.status in (Status.MISSING, Status.LICENCE, Status.UNSUPPORTED):
            pytest.skip(f"{run.label}: {record.status}, {record.reason}")

    benchmark.pedantic(execute)
    judged = campaign.judged()[-1]
    record = judged.record
    benchmark.extra_info.update(
        status=str(record.status),
        incumbent=judged.objective,
        bound=record.bound,
        gap=judged.relative_gap,
        certified=record.certified,
        cuts=record.n_cuts,
        nodes=record.node_count,
        memory=record.peak_memory,
        build_time=record.build_time,
        solve_time=record.solve_time,
        cpu_time=record.cpu_time,
        termination_condition=record.termination_condition,
        versions=record.versions,
    )
    assert record.status in (Status.OK, Status.TIME), f"{record.status}: {record.reason}"
    assert judged.objective is not None, record.reason
