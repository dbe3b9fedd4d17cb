"""The most valuable sets of two classes that differ in exactly one feature, in closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qpm_opt.validation import FloatArray, IntArray


class PairSets(NamedTuple):
    """Best sets of pairs of classes, as columns of what they were found in.

    Attributes
    ----------
    value : ndarray of shape (n_pairs,)
        Of both sets together.
    shared : ndarray of shape (n_pairs, n_per_class - 1), int
    only_first, only_second : ndarray of shape (n_pairs,), int
    """

    value: FloatArray
    shared: IntArray
    only_first: IntArray
    only_second: IntArray


def best_pair_sets(first: FloatArray, second: FloatArray, n_per_class: int) -> PairSets:
    """Sets of k columns each, k - 1 of them shared, with the largest sum of values.

    Given the two columns that are not shared, the shared ones are the k - 1 with the largest sums
    among the rest. A column outside the k - 1 largest sums of all changes nothing about them, so
    of those only the two most valuable ones may be a class's own (the other class may have one);
    within, any may.

    Parameters
    ----------
    first, second : ndarray of shape (n_pairs, n_columns)
        Values of the columns for the first and the second class of every pair.
    n_per_class : int
        k, less than ``n_columns``.
    """
    k, rows = n_per_class, np.arange(len(first))[:, None]
    both = first + second
    # The k + 1 largest sums in order: the shared columns, and the two that may replace some.
    top = np.argpartition(-both, range(min(k + 1, both.shape[1])), axis=1)[:, : k + 1]
    sums = both[rows, top]
    inside = top[:, : k - 1]
    own_first, own_second = (_own_columns(values, inside) for values in (first, second))
    a, b = first[rows, own_first], second[rows, own_second]
    # What the sum of the shared ones changes by if own columns are taken from among them.
    n_inside = k - 1
    lost_a = np.zeros_like(a)
    lost_b = np.zeros_like(b)
    lost_a[:, :n_inside] = lost_b[:, :n_inside] = sums[:, :n_inside]
    in_a = np.arange(a.shape[1]) < n_inside
    n_lost = in_a[:, None].astype(int) + in_a
    replacement = np.zeros((len(a), a.shape[1], a.shape[1]))
    next_sum, last_sum = sums[:, k - 1, None, None], sums[:, k, None, None]
    replacement += np.where(n_lost >= 1, next_sum, 0.0) + np.where(n_lost == 2, last_sum, 0.0)
    # The first replacement may be the other class's own column, outside the shared ones.
    next_column = top[:, k - 1, None]
    taken = in_a[None, :, None] & (own_second == next_column)[:, None, :] & ~in_a
    taken |= in_a[None, None, :] & (own_first == next_column)[:, :, None] & ~in_a[None, :, None]
    replacement += np.where(taken, last_sum - next_sum, 0.0)
    total = (a - lost_a)[:, :, None] + (b - lost_b)[:, None, :] + replacement
    total[own_first[:, :, None] == own_second[:, None, :]] = -np.inf
    best = total.reshape(len(total), a.shape[1] ** 2).argmax(axis=1)
    i, j = np.divmod(best, a.shape[1])
    every = rows[:, 0]
    only_first, only_second = own_first[every, i], own_second[every, j]
    free = (top != only_first[:, None]) & (top != only_second[:, None])
    shared = top[rows, np.argsort(~free, axis=1, kind="stable")[:, : k - 1]]
    value = total[every, i, j] + sums[:, : k - 1].sum(axis=1)
    return PairSets(value, np.sort(shared, axis=1), only_first, only_second)


def _own_columns(values: FloatArray, inside: IntArray) -> IntArray:
    """Columns that may be a class's own: those inside, then the two best outside (or one)."""
    outside = values.copy()
    np.put_along_axis(outside, inside, -np.inf, axis=1)
    n = min(2, values.shape[1] - inside.shape[1])
    best = np.argpartition(-outside, range(n), axis=1)[:, :n]
    return np.concatenate([inside, best], axis=1)
