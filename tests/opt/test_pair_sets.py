"""Best sets of two classes that differ in one feature, against all of them."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qpm_opt.pair_sets import best_pair_sets


@given(st.data())
def test_best_pair_sets_are_the_best_of_all(data):
    p = data.draw(st.integers(2, 6))
    k = data.draw(st.integers(1, p - 1))
    values = hnp.arrays(float, (3, p), elements=st.integers(-4, 4).map(float))
    first, second = data.draw(values), data.draw(values)
    found = best_pair_sets(first, second, k)
    for i in range(3):
        best = max(
            first[i, list(one)].sum() + second[i, list(two)].sum()
            for one in combinations(range(p), k)
            for two in combinations(range(p), k)
            if len(set(one) & set(two)) == k - 1
        )
        shared = found.shared[i].tolist()
        one, two = {*shared, found.only_first[i]}, {*shared, found.only_second[i]}
        assert len(one) == len(two) == k
        assert len(one & two) == k - 1
        assert first[i, list(one)].sum() + second[i, list(two)].sum() == found.value[i] == best


def test_no_pairs():
    found = best_pair_sets(np.zeros((0, 4)), np.zeros((0, 4)), 2)
    assert found.value.shape == (0,)
    assert found.shared.shape == (0, 1)
