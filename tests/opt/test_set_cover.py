"""Minimum set covers against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_opt import (
    InvalidProblemError,
    SolutionStatus,
    TerminationCondition,
    minimum_set_cover,
)


def fewest(covers, n_uncovered: int) -> int | None:
    sets = [{e for e, row in enumerate(covers) if row[j]} for j in range(len(covers[0]))]
    for size in range(len(sets) + 1):
        for chosen in itertools.combinations(sets, size):
            if len(covers) - len(set().union(*chosen)) <= n_uncovered:
                return size
    return None


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_cover_is_smaller(seed):
    rng = np.random.default_rng(seed)
    covers = rng.random((int(rng.integers(1, 25)), int(rng.integers(1, 9)))) < rng.choice(
        [0.15, 0.3, 0.6]
    )
    n_uncovered = int(rng.choice([0, 0, 1, 3]))
    cover = minimum_set_cover(covers, n_uncovered=n_uncovered)
    expected = fewest(covers.tolist(), n_uncovered)
    if expected is None:
        assert cover.termination_condition is TerminationCondition.INFEASIBLE
        assert cover.solution_status is SolutionStatus.NO_SOLUTION
        assert cover.sets is None
        return
    assert cover.sets.size == cover.bound == expected
    assert np.count_nonzero(~covers[:, cover.sets].any(axis=1)) <= n_uncovered
    assert cover.solution_status is SolutionStatus.OPTIMAL
    assert cover.termination_condition is TerminationCondition.OPTIMAL
    assert cover.relative_gap == 0


def test_steiner_triple_system_of_nine_points():
    # Fulkerson, Nemhauser and Trotter (1974): STS(9) needs 5 points to meet all 12 lines.
    lines = [
        [(x + t * dx) % 3 * 3 + (y + t * dy) % 3 for t in range(3)]
        for dx, dy in ((0, 1), (1, 0), (1, 1), (1, 2))
        for x, y in ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2))
    ]
    unique = {tuple(sorted(line)) for line in lines}
    assert len(unique) == 12
    covers = np.zeros((12, 9), dtype=bool)
    for row, line in enumerate(sorted(unique)):
        covers[row, list(line)] = True
    cover = minimum_set_cover(covers)
    assert cover.sets.size == cover.bound == 5


def test_a_limit_leaves_a_cover_and_a_bound():
    rng = np.random.default_rng(0)
    covers = rng.random((200, 40)) < 0.15
    covers[~covers.any(axis=1), 0] = True
    best = minimum_set_cover(covers, time_limit=None)
    assert best.solution_status is SolutionStatus.OPTIMAL
    limited = minimum_set_cover(covers, node_limit=10)
    assert covers[:, limited.sets].any(axis=1).all()
    assert limited.bound <= best.sets.size <= limited.sets.size
    assert limited.termination_condition is TerminationCondition.NODE_LIMIT
    assert limited.absolute_gap == limited.sets.size - limited.bound > 0


def test_bad_input_is_refused_in_words():
    with pytest.raises(InvalidProblemError, match=r"\(n_elements, n_sets\)"):
        minimum_set_cover([True, False])
    with pytest.raises(InvalidProblemError, match="covers must be boolean"):
        minimum_set_cover([[2.0]])
    with pytest.raises(InvalidProblemError, match="n_uncovered is -1"):
        minimum_set_cover([[True]], n_uncovered=-1)


def test_no_elements_need_no_sets():
    assert minimum_set_cover(np.zeros((0, 4), dtype=bool)).sets.size == 0
