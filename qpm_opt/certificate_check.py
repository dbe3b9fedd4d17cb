"""Value of one certificate, computed from the problem and the certificate's multipliers alone.

Nothing is shared with the code that makes proofs (``qpm_opt.bounds``), where
``qpm_opt/bounds/proof.py`` says what a certificate is and why it holds. Two things are more general
here, so that any multipliers of the right signs give a true bound:

- Weights of a class that do not sum to 1 are charged: |1 - sum| k max |A_cj| over the region.
- Without a semidefinite part, sum_(i < j) q_ij Y_ij <= m (m - 1) / 2 max(0, max q_ij), whatever
  the terms behind the coefficients q_ij.

Rounding never makes a value too small. With eps = 2^-52 and ``size`` the sum of the magnitudes that
were added or multiplied, a sum is raised by n eps size, n at least the number of operations behind
it, each off by eps / 2. The largest eigenvalue of T is raised by 10 n eps |T|_F, n its order,
several times the backward error of Householder's reflection and LAPACK's symmetric eigenvalues.
Together this is at most 1e-10 or so of the value, for 200 to 2000 features, 200 classes, 3000 rows
and 40,000 splits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from qpm_opt.errors import InvalidSolutionError
from qpm_opt.problem import Problem
from qpm_opt.proof_file import Multipliers
from qpm_opt.validation import FloatArray, IntArray

EPS = float(np.finfo(np.float64).eps)
#: More than all underflows of one certificate together.
UNDERFLOW = 1e-300
#: A certificate with numbers from here on, or without a number, proves nothing.
OVERFLOW = 1e300

#: Larger weights and levels of rows, whose products might not be exact, are refused.
LARGEST_WHOLE = 2**20

#: Arrays that hold one row for every term of a kind.
_TERMS = (
    ("threshold_class", "threshold", "threshold_weight"),
    ("pair_classes", "pair_thresholds", "pair_price", "pair_weight"),
    ("split_class", "split_feature", "split_inside", "split_outside", "split_weight"),
    ("row_level", "row_price"),
)


@dataclass(frozen=True, eq=False)
class Region:
    """The selections that hold all of ``ones`` and otherwise only ``free`` features (ascending)."""

    ones: IntArray
    free: IntArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Value of a certificate, and by how much less it is for part of its region.

    Attributes
    ----------
    value : float
        At least the objective plus the reward of every selection of the region; inf where numbers
        overflow.
    loss_in, loss_out : ndarray, (n_free,)
        The objective of a selection with (without) a free feature is at most ``value`` less this;
        inf if there is no such selection.
    """

    value: float
    loss_in: FloatArray
    loss_out: FloatArray


def evaluate(problem: Problem, region: Region, given: Multipliers) -> Evaluation:
    """Value of a certificate over a region.

    Parameters
    ----------
    problem : Problem
    region : Region
        Not empty.
    given : dict of str to ndarray
        The certificate's arrays, by the names of the fields of a proof file.

    Raises
    ------
    InvalidSolutionError
        If shapes or indices do not fit each other, the problem or the region.
    """
    _check_shapes(given, len(region.free))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows closes nothing
        form = _Form(problem, region)
        form.add_thresholds(given)
        form.add_pairs(given)
        form.add_splits(given)
        form.add_conflicts(given)
        form.add_rows(given)
        form.add_reward(given)
        form.add_missing_weights()
        return _maximum(form, given)


def _check_shapes(given: Multipliers, n_free: int) -> None:
    for names in _TERMS:
        lengths = {len(given[name]) for name in names}
        if len(lengths) > 1:
            raise InvalidSolutionError(f"{', '.join(names)} differ in length.")
    if len(given["reward"]) != n_free:
        raise InvalidSolutionError(
            f"its reward is for {len(given['reward'])} free features, the region has {n_free}."
        )
    if given["corner"].size != 1:
        raise InvalidSolutionError("corner must be one number.")
    sizes = tuple(given[name].size for name in ("border", "diagonal", "nonnegativity"))
    if sizes not in ((0, 0, 0), (n_free, n_free, n_free * (n_free - 1) // 2)):
        raise InvalidSolutionError(
            f"border, diagonal and nonnegativity have {sizes} entries, which does not fit "
            f"{n_free} free features."
        )


class _Form:
    """An upper bound ``constant + linear @ s + sum_ij products_ij s_i s_j`` on the objective.

    ``constant_size``, ``linear_size`` and ``product_size`` (one for each row of ``products``) are
    at least the sums of the magnitudes behind each entry; no entry takes more than ``n_terms``
    operations, one after the other.
    """

    def __init__(self, problem: Problem, region: Region) -> None:
        ones, free = region.ones, region.free
        self.distinct = problem.distinct
        self.pairs = {(c, e) for c, e in np.sort(problem.pairs, axis=1).tolist()}
        self.n_per_class = problem.n_per_class
        self.n_left = problem.n_selected - len(ones)
        self.values = problem.class_similarity[:, free]
        self.fixed = problem.class_similarity[:, ones]
        self.largest = np.maximum(
            np.abs(self.values).max(axis=1, initial=0.0),
            np.abs(self.fixed).max(axis=1, initial=0.0),
        )
        self.position = np.full(problem.n_features, -1)
        self.position[free] = np.arange(len(free))
        b, R = problem.bias, problem.feature_similarity
        among, across = R[np.ix_(ones, ones)], R[np.ix_(free, ones)]
        self.constant = float(b[ones].sum() - among.sum() / 2)
        self.linear = b[free] - across.sum(axis=1)
        self.products = R[np.ix_(free, free)] / -2
        self.constant_size = float(np.abs(b[ones]).sum() + np.abs(among).sum())
        self.linear_size = np.abs(b[free]) + np.abs(across).sum(axis=1)
        self.product_size = np.abs(self.products).max(axis=1, initial=0.0)
        self.weight = np.zeros(problem.n_classes)
        self.n_weights = np.zeros(problem.n_classes)
        self.n_terms = 20 + len(ones) + len(free)

    def add_thresholds(self, given: Multipliers) -> None:
        """theta_c <= k t + sum_j (A_cj - t)+ s_j."""
        c, t, w = given["threshold_class"], given["threshold"], given["threshold_weight"]
        self._cover(c, w)
        self.n_terms += len(w)
        self._add(
            w,
            self.n_per_class * t,
            np.maximum(self.values[c] - t[:, None], 0),
            np.maximum(self.fixed[c] - t[:, None], 0),
            self.largest[c] + np.abs(t),
        )

    def add_pairs(self, given: Multipliers) -> None:
        """theta_c + theta_e <= k (t + v) + (k - 1) u + sum_j max(...) s_j.

        For u >= 0 because they share at most k - 1 features, for any u because exactly so many.
        """
        classes, thresholds = given["pair_classes"], given["pair_thresholds"]
        u, w, k = given["pair_price"], given["pair_weight"], self.n_per_class
        listed = np.array([tuple(pair) in self.pairs for pair in np.sort(classes, 1).tolist()])
        if not self.distinct and not listed.all():
            raise InvalidSolutionError("it has pair terms, but classes need not be distinct.")
        if (u[~listed.astype(bool)] < 0).any():
            raise InvalidSolutionError("a pair that is not contrastive has a negative price.")
        if (classes[:, 0] == classes[:, 1]).any():
            raise InvalidSolutionError("a pair term is of one class with itself.")
        for c in classes.T:
            self._cover(c, w)
        self.n_terms += len(w)

        def gains(values: FloatArray) -> FloatArray:
            first = values[classes[:, 0]] - thresholds[:, :1]
            second = values[classes[:, 1]] - thresholds[:, 1:]
            both = first + second - u[:, None]
            best: FloatArray = np.maximum(np.maximum(first, second), np.maximum(both, 0))
            return best

        self._add(
            w,
            k * thresholds.sum(axis=1) + (k - 1) * u,
            gains(self.values),
            gains(self.fixed),
            self.largest[classes].sum(axis=1) + np.abs(thresholds).sum(axis=1) + np.abs(u),
        )

    def add_splits(self, given: Multipliers) -> None:
        """theta_c <= the threshold t where s_d = 1, the threshold v where s_d = 0."""
        c, w, k = given["split_class"], given["split_weight"], self.n_per_class
        inside, outside = given["split_inside"], given["split_outside"]
        d = self._places(given["split_feature"], "split")
        self._cover(c, w)
        size = 2 * (self.largest[c] + np.abs(inside) + np.abs(outside))
        split, n_splits = np.unique(d, return_counts=True)
        self.n_terms += 2 * (len(split) + int(n_splits.max(initial=0)))  # sums of sums
        for feature in split:  # all at once would need too much memory
            of = np.flatnonzero(d == feature)
            t, v = inside[of, None], outside[of, None]
            # The threshold v everywhere, and the difference where s_d = 1.
            gain, fixed = (np.maximum(A[c[of]] - v, 0) for A in (self.values, self.fixed))
            self._add(w[of], k * outside[of], gain, fixed, size[of])
            self.products[feature] += w[of] @ (np.maximum(self.values[c[of]] - t, 0) - gain)
            more = k * (t - v)[:, 0] + (np.maximum(self.fixed[c[of]] - t, 0) - fixed).sum(axis=1)
            self.linear[feature] += w[of] @ more
            self.product_size[feature] += w[of] @ size[of]
            self.linear_size[feature] += (w[of] @ size[of]) * (k + self.fixed.shape[1])

    def add_conflicts(self, given: Multipliers) -> None:
        """- w sum_(i < j in K) Y_ij <= w (1 - sum_K s), so that much may be taken out of R."""
        sets, members = given["conflict_members"].T
        w, n_free = given["conflict_price"], len(self.linear)
        if sets.size and not 0 <= sets.min() <= sets.max() < w.size:
            raise InvalidSolutionError("conflict_members name a set without a price.")
        held = csr_array(
            (np.ones(sets.size), (sets, self._places(members, "conflict"))), (w.size, n_free)
        )
        held.data[:] = 1.0  # a feature named twice is in the set once
        weighted = held.multiply(w[:, None]).tocsr()
        removed = (held.T @ weighted).toarray() / 2
        np.fill_diagonal(removed, 0.0)
        taken = np.asarray(weighted.sum(axis=0)).ravel()
        self.constant += float(w.sum())
        self.constant_size += float(w.sum())
        self.linear -= taken
        self.linear_size += taken
        self.products += removed
        self.product_size += removed.max(axis=1, initial=0.0)
        self.n_terms += w.size

    def add_rows(self, given: Multipliers) -> None:
        """price (w's - b) (w's - b - 1) / 2 >= 0 for every row: two whole numbers in succession."""
        number, feature, weight = given["row_members"].T
        level, price, n_free = given["row_level"], given["row_price"], len(self.linear)
        if number.size and not 0 <= number.min() <= number.max() < price.size:
            raise InvalidSolutionError("row_members name a row without a price.")
        if any(_exceeds(whole) for whole in (weight, level)):
            raise InvalidSolutionError(f"a row has a weight or level above {LARGEST_WHOLE}.")
        place = self._places(feature, "row")
        w = csr_array((weight.astype(np.float64), (number, place)), (price.size, n_free))
        w.sum_duplicates()
        if _exceeds(w.data):
            raise InvalidSolutionError(f"a row has a weight above {LARGEST_WHOLE}.")
        row, j = w.tocoo().coords
        own = price[row] * (w.data * (w.data - 2.0 * level[row] - 1.0) / 2)
        np.add.at(self.linear, j, own)
        np.add.at(self.linear_size, j, np.abs(own))
        products, size = (
            (held.T @ held.multiply(price[:, None])).toarray() / 2 for held in (w, abs(w))
        )
        np.fill_diagonal(products, 0.0)
        self.products += products
        self.product_size += size.max(axis=1, initial=0.0)
        try:
            charge = math.fsum(price * (level * (level + 1.0) / 2))
        except OverflowError:
            charge = math.inf
        self.constant += charge
        self.constant_size += charge
        self.n_terms += 4 + int(np.bincount(j, minlength=1).max())

    def add_reward(self, given: Multipliers) -> None:
        """max(rho, 0) s + max(-rho, 0) (1 - s)."""
        rho = given["reward"]
        lost = float(np.maximum(-rho, 0).sum())
        self.constant += lost
        self.constant_size += lost
        self.linear += rho
        self.linear_size += np.abs(rho)

    def add_missing_weights(self) -> None:
        """What the weights of a class lack to 1, or exceed it by, times the largest |theta_c|."""
        lack = np.abs(1 - self.weight) + EPS * (self.n_weights + 1) * (self.weight + 1)
        charge = float(lack @ (self.n_per_class * self.largest))
        self.constant += charge
        self.constant_size += charge

    def _cover(self, c: IntArray, weight: FloatArray) -> None:
        if c.size and not 0 <= c.min() <= c.max() < self.weight.size:
            raise InvalidSolutionError(
                f"it names a class that is not one of the {self.weight.size} of the problem."
            )
        np.add.at(self.weight, c, weight)
        np.add.at(self.n_weights, c, 1)

    def _add(
        self,
        w: FloatArray,
        constant: FloatArray,
        gain: FloatArray,
        fixed: FloatArray,
        size: FloatArray,
    ) -> None:
        """Terms ``w (constant + gain @ s + sum fixed)``.

        ``size`` bounds the magnitudes behind each gain, and k times ``size`` those behind a
        constant.
        """
        self.constant += float(w @ (constant + fixed.sum(axis=1)))
        self.linear += w @ gain
        self.constant_size += float(w @ size) * (self.n_per_class + fixed.shape[1])
        self.linear_size += float(w @ size)

    def _places(self, features: IntArray, what: str) -> IntArray:
        inside = (features >= 0) & (features < self.position.size)
        places = np.where(inside, self.position[np.where(inside, features, 0)], -1)
        if (places < 0).any():
            raise InvalidSolutionError(
                f"a {what} names feature {features[places < 0][0]}, which is not free."
            )
        return places


def _maximum(form: _Form, given: Multipliers) -> Evaluation:
    """The bound that weak duality gives for the largest value of a form over the region."""
    m, n = form.n_left, len(form.linear)
    unit = EPS * form.n_terms
    own = np.diagonal(form.products)  # Y_jj = s_j
    linear = form.linear + own
    linear_size = form.linear_size + form.product_size + np.abs(own)
    Q = (form.products + form.products.T) / 2
    np.fill_diagonal(Q, 0.0)
    if given["border"].size:
        border, diagonal, corner = given["border"], given["diagonal"], float(given["corner"][0])
        rows, columns = np.triu_indices(n, 1)
        T = np.empty((n + 1, n + 1))
        T[0, 0], T[0, 1:], T[1:, 0] = corner, border, border
        Q[rows, columns] += given["nonnegativity"]
        Q[columns, rows] += given["nonnegativity"]
        Q[np.diag_indices(n)] = diagonal
        T[1:, 1:] = Q
        linear = linear - diagonal - 2 * border
        linear_size = linear_size + np.abs(diagonal) + 2 * np.abs(border)
        # x' dQ x <= |s|^2 |dQ|_F, and |s|^2 = m
        unsure = m * unit * math.sqrt(n) * _norm(form.product_size)
        unsure += 2 * m * EPS * _norm(T)  # the nonnegativity was added with rounding
        quadratic = [(m + 1) * _largest_eigenvalue(T, m), -corner, unsure]
    else:
        unsure = 2 * unit * form.product_size.max(initial=0.0)
        quadratic = [m * (m - 1) / 2 * np.maximum(0.0, 2 * Q.max(initial=0.0) + unsure)]
    r = linear + unit * linear_size
    ranked = np.concatenate([[np.inf], -np.sort(-r), [-np.inf]])
    parts = [form.constant, unit * form.constant_size, *quadratic, *ranked[1 : m + 1]]
    rho = given["reward"]
    if not all((np.abs(numbers) < OVERFLOW).all() for numbers in (parts, Q, r, rho)):
        return Evaluation(math.inf, np.zeros(n), np.zeros(n))
    return Evaluation(
        float(np.nextafter(math.fsum(parts), math.inf)) + UNDERFLOW,
        loss_in=np.maximum(rho, 0) + np.maximum(ranked[m] - r, 0),
        loss_out=np.maximum(-rho, 0) + np.maximum(r - ranked[m + 1], 0),
    )


def _largest_eigenvalue(T: FloatArray, m: int) -> float:
    """The largest eigenvalue of T on the vectors orthogonal to (m, -1, ..., -1), rounded up."""
    if not np.isfinite(T).all():
        return math.inf
    # Householder's reflection I - 2 h h' takes that vector to a multiple of (1, 0, ..., 0).
    h = np.full(len(T), -1.0)
    h[0] = m + math.sqrt(m * m + len(T) - 1)
    h /= np.linalg.norm(h)
    g = 2 * (T @ h)
    g -= (h @ g) * h
    projected = (T - np.outer(g, h) - np.outer(h, g))[1:, 1:]
    try:
        largest = float(np.linalg.eigvalsh(projected)[-1])
    except np.linalg.LinAlgError:
        return math.inf
    return largest + 10 * len(T) * EPS * _norm(T)


def _exceeds(whole: NDArray[Any]) -> bool:
    """Whether one is above the limit; the magnitude of the least integer of 64 bits is none."""
    return bool(((whole < -LARGEST_WHOLE) | (whole > LARGEST_WHOLE)).any())


def _norm(array: FloatArray) -> float:
    """Frobenius norm; squares neither overflow nor vanish."""
    largest = float(np.abs(array).max(initial=0.0))
    return largest * float(np.linalg.norm(array / largest)) if largest else 0.0
