"""What is decided before the search of a cover, by hand: rows, boundaries, images lost."""

from __future__ import annotations

import numpy as np

from qpm_opt import CoverProblem
from qpm_opt.cover.reduction import Instance, certainly_lost, reduce, within_columns
from qpm_opt.cover.stages import _few_boundaries


def of_sets(same, other, n_boundaries, **options):
    """Problem of images by the sets of boundaries that separate them."""
    separated = np.zeros((len(same) + len(other), n_boundaries), bool)
    for image, members in enumerate([*same, *other]):
        separated[image, list(members)] = True
    return CoverProblem(separated, np.arange(len(separated)) < len(same), **options)


def reduced(problem):
    return reduce(problem, certainly_lost(problem))


def test_boundaries_without_use_go():
    # 0 hits less than 1 and loses as much, 4 hits nothing, 5 is 2 again. 1, 2 and 3 lose each an
    # image of their own.
    problem = of_sets([{0, 1}, {3}, {2, 5}, {4}], [{0, 1, 2, 5}, {1, 2, 3, 5}], 6)
    instance = reduced(problem)
    assert instance.columns == [1, 2, 3]
    assert instance.rows.bit_count() == 2 and instance.spare == 0
    assert instance.most == 4 and instance.lost == 0
    assert instance.losses == [0b0001, 0b0100, 0b0010]


def test_losses_that_are_certain_do_not_count_for_a_boundary():
    # The first image is lost in any case, so 1 loses nothing and is better than all.
    problem = of_sets([{0, 1, 4}, {3}], [{0, 1, 4}, {1, 3, 4}], 5)
    assert reduced(problem).columns == [1]


def test_images_lost_in_any_case_are_marked():
    # To keep the first image both boundaries must be left out; then the other image stays.
    problem = of_sets([{0, 1}, {0}, {1}], [{0, 1}], 2)
    instance = reduced(problem)
    assert certainly_lost(problem).tolist() == [True, False, False, False]
    assert instance.lost == 0b001
    # With one to spare it may be kept.
    assert reduced(of_sets([{0, 1}, {0}, {1}], [{0, 1}], 2, n_exceptions=1)).lost == 0


def test_exceptions_without_spare_ones_are_a_constant():
    problem = of_sets([{0}, {1}], [{0, 1}, set(), set()], 2, count_exceptions=True)
    instance = reduced(problem)
    assert instance.most == 2 + 2 and instance.losses == [0b01, 0b10]
    # With one to spare the image that can be excluded counts, too.
    problem = of_sets([{0}, {1}], [{0, 1}, set(), set()], 2, n_exceptions=3, count_exceptions=True)
    instance = reduced(problem)
    assert instance.most == 5
    assert instance.losses == [0b101, 0b110]


def test_rows_are_minimal_again_without_some_columns():
    instance = reduced(of_sets([{0}, {1}, {2}], [{0, 1}, {1, 2}, {0, 2}], 3))
    assert instance.columns == [0, 1, 2] and instance.rows.bit_count() == 3
    # Without 0 the rows are {1}, {1, 2} and {2}: who hits the first and the last hits all.
    some = within_columns(instance, [1, 2])
    assert some.columns == [1, 2] and some.rows.bit_count() == 2 and some.spare == 0
    assert sorted(some.hits) == [0b01, 0b10]
    assert some.losses == instance.losses[1:]
    # Without 0 and 1 a row cannot be hit, and none is to spare.
    assert within_columns(instance, [2]).spare == -1


def test_rows_that_may_stay_are_used_up_by_those_out_of_reach():
    instance = reduced(of_sets([{0}, {1}], [{0}, {1}, {0, 1}], 2, n_exceptions=1))
    some = within_columns(instance, [1])
    assert some.spare == 0 and some.rows.bit_count() == 1


def test_a_quick_choice_is_feasible_or_none():
    def instance(spare):
        return Instance(
            columns=[0, 1], losses=[0b01, 0b10], hits=[0b01, 0b10], rows=0b11, spare=spare,
            lost=0, most=2,
        )  # fmt: skip

    assert _few_boundaries(instance(0), 2) == [0, 1]
    assert _few_boundaries(instance(0), 1) is None  # the second one would lose too much
    assert _few_boundaries(instance(1), 1) == [0]
    assert _few_boundaries(instance(2), 0) == []
    lacking = Instance([0], [0b0], [0b01], rows=0b11, spare=0, lost=0, most=1)
    assert _few_boundaries(lacking, 1) is None  # nobody hits the second row
