"""The problem and its assignment as a scikit-learn classifier, for any feature matrix."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from qpm_nn.class_sets import ClassExplanation, explain_set
from qpm_opt import InvalidInputError, Result, SolverError, TerminationCondition, solve
from qpm_opt.constants import (
    BIAS_SCALE,
    FeatureStatistics,
    problem_from_statistics,
    statistics_from_features,
)
from qpm_opt.errors import unknown_name

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.feature_selection import SelectorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as missing:
    raise InvalidInputError(
        "QPMClassifier needs scikit-learn 1.6 or later; install the extra: pip install '.[nn]' "
        f"(the import failed with: {missing})."
    ) from None

_FLOATS = [np.float64, np.float32]


class QPMClassifier(SelectorMixin, ClassifierMixin, BaseEstimator):
    """Classifier that explains every class as a set of a few features, shared by all classes.

    ``n_selected`` features are selected and every class is assigned ``n_per_class`` of them, no two
    classes the same ones, by solving the program of :class:`qpm_opt.Problem`. The logit of a class
    is the sum of its features, each standardised by its mean and standard deviation over the
    training samples; nothing else is fitted. It is also a feature selector: ``transform`` and
    ``get_support`` give the selected features.

    A feature speaks for a class by being high. Where low values speak too, as in most tables, offer
    both signs: ``numpy.hstack([X, -X])``.

    Parameters
    ----------
    n_selected : int
        p. If fewer features vary, all these are selected, with a warning. Of more than
        ``n_classes * n_per_class`` some have no class.
    n_per_class : int
        k. Lowered, with the same warning, where a lack of features leaves too few different sets
        of that size. If the features are too few for different sets of any size, classes share
        their set, and of these the first in ``classes_`` is predicted.
    locality : array of shape (n_features,), optional
        What a feature is worth to be selected, besides its similarity to classes, on any scale:
        outliers are clipped, the rest is centred and scaled (:func:`qpm_opt.constants.feature_bias`
        makes b of it). NaN is neutral. b is 0 by default.
    bias_scale : float
        lambda, the largest magnitude in b.
    method : {"exact", "compact", "paper", "heuristic"}
        See :func:`qpm_opt.solve`. All but ``heuristic`` and ``paper`` give a bound.
    solver : {"highs", "cpsat", "gurobi", "scip"}
        Back end of ``compact`` and ``paper``.
    time_limit : float or None
        Seconds for the solve; None is no limit. ``heuristic`` always takes all of it. The result of
        a solve that the time ends depends on the speed of the machine.
    threads : int or None
        1 makes the solve repeatable; None takes all processors.
    random_state : int, RandomState instance or None
        Seed of the searches. Unlike elsewhere it is fixed by default, so that a fit is repeatable.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, ascending.
    selection_ : ndarray of shape (n_features,), bool
        s, the features that are selected.
    assignment_ : ndarray of shape (n_classes, n_features), bool
        W, the features of every class.
    objective_ : float
        Of the assignment, recomputed in float64.
    bound_ : float or None
        Upper bound on the objective of any assignment; None if the method gave none.
    relative_gap_ : float or None
        ``|bound_ - objective_| / |objective_|``.
    solution_status_ : str
        ``optimal`` if the bound meets the objective, else ``feasible``.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and population standard deviation of the training samples.
    class_means_ : ndarray of shape (n_classes, n_features)
        Mean of the standardised features over the samples of every class.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), str
        Only if X had column names.

    Notes
    -----
    The constants take memory for a few arrays of shape (n_features, n_features). A Ctrl-C ends
    ``fit`` without a fitted classifier; :func:`qpm_opt.solve` keeps what it has, and its result can
    be saved with the certificate of its bound.

    References
    ----------
    Norrenbrock et al., QPM: Discrete Optimization for Globally Interpretable Image Classification,
    ICLR 2025.

    Examples
    --------
    >>> from qpm_nn import QPMClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> QPMClassifier(n_selected=3, n_per_class=1).fit(X, y).assignment_.sum(axis=1)
    array([1, 1, 1])
    """

    def __init__(
        self,
        n_selected: int = 50,
        n_per_class: int = 5,
        *,
        locality: ArrayLike | None = None,
        bias_scale: float = BIAS_SCALE,
        method: str = "exact",
        solver: str = "highs",
        time_limit: float | None = 60.0,
        threads: int | None = 1,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_selected = n_selected
        self.n_per_class = n_per_class
        self.locality = locality
        self.bias_scale = bias_scale
        self.method = method
        self.solver = solver
        self.time_limit = time_limit
        self.threads = threads
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> QPMClassifier:
        """Select and assign features.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)
            Finite numbers; a constant feature is never selected.
        y : array of shape (n_samples,)
            At least two different labels.

        Raises
        ------
        InvalidInputError
            If parameters contradict each other or the data allow no problem; a ``ValueError``.
        SolverError
            If there was no time to find any assignment.
        """
        X, y = validate_data(self, X, y, dtype=_FLOATS, ensure_min_samples=2)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InvalidInputError(
                f"y has only one class, {classes.tolist()[0]!r}; at least two are needed."
            )
        statistics = statistics_from_features(X, labels)
        n_selected, n_per_class, distinct = self._sizes(len(classes), int(statistics.varies.sum()))
        seed = self._seed()
        problem = problem_from_statistics(
            statistics,
            n_selected=n_selected,
            n_per_class=n_per_class,
            locality=self.locality,
            bias_scale=self.bias_scale,
            distinct=distinct,
            seed=seed,
        )
        result = solve(
            problem,
            method=self.method,
            solver=self.solver,
            time_limit=self.time_limit,
            threads=self.threads,
            seed=seed,
        )
        self._keep(result, statistics)
        self.classes_ = classes
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits: sums of the standardised features of a class.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            With two classes, the logit of the second minus that of the first.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Label of the largest logit, shape (n_samples,); of equal ones the first."""
        best = self._logits(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Softmax of the logits, shape (n_samples, n_classes).

        Not calibrated: no temperature is fitted, and class frequencies do not enter. With
        scikit-learn 1.8, ``CalibratedClassifierCV(classifier, method="temperature",
        ensemble=False)`` fits one and keeps a single set of features for every class.
        """
        return np.asarray(softmax(self._logits(X), axis=1))

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logarithm of :meth:`predict_proba`, finite also where that is 0."""
        return np.asarray(log_softmax(self._logits(X), axis=1))

    def explain(self, label: Any) -> ClassExplanation:
        """The features of a class and the classes that differ from it in a single one.

        Parameters
        ----------
        label : object
            One of ``classes_``.

        Raises
        ------
        InvalidInputError
            If there is no such class.
        """
        check_is_fitted(self)
        labels = self.classes_.tolist()
        if np.ndim(label) or label not in labels:
            raise unknown_name("class", str(label), map(str, labels))
        return explain_set(
            self.assignment_,
            labels.index(label),
            self.class_means_,
            getattr(self, "feature_names_in_", [f"x{d}" for d in range(self.n_features_in_)]),
            labels,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Three classes of points in the plane cannot have different sets of the two coordinates.
        tags.classifier_tags.poor_score = True
        return tags

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        return self.selection_

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, reset=False)
        chosen = self.selection_
        standardised = (X[:, chosen] - self.mean_[chosen]) / self.scale_[chosen]
        return standardised @ self.assignment_[:, chosen].T.astype(np.float64)

    def _sizes(self, n_classes: int, n_varying: int) -> tuple[int, int, bool]:
        """Numbers of features to select and to assign, and whether sets can be distinct."""
        if n_varying == 0:
            raise InvalidInputError(
                f"None of the n_features={self.n_features_in_} feature(s) varies over the samples; "
                "at least one that does is needed."
            )
        p, k = (_as_size(getattr(self, name), name) for name in ("n_selected", "n_per_class"))
        if p <= n_varying:
            if k <= p and math.comb(p, k) < n_classes:
                raise InvalidInputError(
                    f"{n_classes} classes cannot all differ: there are only {math.comb(p, k)} sets "
                    f"of n_per_class={k} out of n_selected={p} features; raise n_selected."
                )
            return p, k, True
        p = n_varying
        sets = {size: math.comb(p, size) for size in range(min(k, p), 0, -1)}
        enough = [size for size in sets if sets[size] >= n_classes]
        k = enough[0] if enough else max(sets, key=sets.__getitem__)
        alike = "" if enough else f", so that some of the {n_classes} classes have the same ones"
        warnings.warn(
            f"n_selected={self.n_selected} is more than the {n_varying} of {self.n_features_in_} "
            f"features that vary: {p} are selected and {k} assigned to each class{alike}.",
            UserWarning,
            stacklevel=3,
        )
        return p, k, bool(enough)

    def _seed(self) -> int:
        """A given seed as it is, so that :func:`qpm_opt.solve` with it gives the same."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _keep(self, result: Result, statistics: FeatureStatistics) -> None:
        if result.termination_condition is TerminationCondition.INTERRUPTED:
            raise KeyboardInterrupt  # of whatever the fit is part of, a search over parameters say
        if result.assignment is None or result.objective is None:
            raise SolverError(
                f"No assignment was found ({result.termination_condition}); raise time_limit, "
                f"which is {self.time_limit}."
            )
        self.selection_ = result.assignment.selection
        self.assignment_ = result.assignment.matrix
        self.objective_ = result.objective
        self.bound_ = result.bound
        self.relative_gap_ = result.relative_gap
        self.solution_status_ = str(result.solution_status)
        self.mean_, self.scale_ = statistics.mean, statistics.std
        # A correlation with the indicator of a class is its mean of the standardised feature, up to
        # the standard deviation of the indicator.
        share = statistics.class_counts / statistics.n_images
        self.class_means_ = statistics.class_similarity * np.sqrt((1.0 - share) / share)[:, None]


def _as_size(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInputError(f"{name} is {value!r}; a whole number from 1 on was expected.")
    return int(value)
