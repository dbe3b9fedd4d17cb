"""Negative assignments: W in {-1, 0, 1}, where -1 counts a feature against a class.

The QPM paper names them as future work (appendix K). The problem is

    maximise   sum_cd A_cd W_cd  -  sum_{d<e} R_de s_d s_e  +  sum_d b_d s_d
    subject to sum_d s_d = p,  sum_d |W_cd| = k for every c,  |W_cd| <= s_d,
               no two classes with the same features, whatever their signs.

It is the binary problem over the doubled features [z, -z] with A doubled to [A, -A], because
correlations and areas under ROC curves less 1/2 change their sign with the feature; both halves are
selected together, and a class has at most one of each pair. Of a pair a class always takes the one
with the larger value: exchanging it for the other changes neither the sets of features nor s, so it
keeps every constraint. Hence the optimum is that of the *binary problem with |A|*, with
``W = sign(A)`` where that one assigns; every method, bound and certificate applies as it is
(``negative=True`` of :func:`qpm_opt.constants.compute_constants`).

R is the absolute value of the cosine similarities, the larger of those of (d, e) and (d, -e).

Classes with the same features and other signs would differ, too. They are excluded so that classes
contrast as sets of features; without that the optimum is between the one here and the one with
``distinct=False``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qpm_opt.assignment import Assignment


def signed_matrix(assignment: Assignment, class_similarity: ArrayLike) -> NDArray[np.int8]:
    """W of an assignment made with ``negative=True``.

    Parameters
    ----------
    assignment : Assignment
    class_similarity : array of shape (n_classes, n_features)
        A with its signs, before or after scaling. Where it is 0 the sign is positive.

    Returns
    -------
    ndarray of shape (n_classes, n_features), int8
        -1, 0 or 1.
    """
    sign = np.where(np.asarray(class_similarity) < 0, -1, 1)
    return (assignment.matrix * sign).astype(np.int8)
