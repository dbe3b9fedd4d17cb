"""Elastic-net path of multinomial logistic regression, every point with its duality gap.

The problem, for features x_i and labels y_i of n images, weights W and an unpenalised bias v:

    minimise  1/n sum_i cross_entropy(W x_i + v, y_i)
              + lambda (alpha |W| + (1 - alpha) / 2 |W|_2^2)

where |W| is the sum of the absolute weights or, grouped, of the norms of W's columns. It is the
final layer of the SLDD-Model and of Q-SENN and the baseline glm-saga; those fit it by stochastic
proximal steps, which certify nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from qpm_nn.sparse.columns import Columns
from qpm_nn.sparse.newton import Iterate, minimise
from qpm_nn.sparse.penalty import BoolArray, FloatArray, Penalty
from qpm_nn.sparse.softmax import Softmax
from qpm_opt import InvalidInputError

log = logging.getLogger(__name__)

#: Standard deviation, relative to the largest entry, up to which a feature counts as constant.
CONSTANT = 1e-7
#: How often the tolerance of the working features is tightened for the sake of the whole gap.
MAX_TIGHTENINGS = 20
#: How often an interval of the path is halved in search of the wanted number of features.
MAX_BISECTIONS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticNetFit:
    """A point of the path.

    Attributes
    ----------
    lambda_ : float
        Strength of the penalty.
    weight : csr_array of shape (n_classes, n_features)
        Only what is not exactly zero is stored.
    bias : array of shape (n_classes,)
        Its mean is 0: a constant on all biases changes no probability.
    loss : float
        Mean cross entropy.
    objective : float
        Loss plus penalty.
    gap : float
        Duality gap: no weights and biases have an objective below ``objective - gap`` (up to
        rounding, and over the features that were allowed).
    """

    lambda_: float
    weight: csr_array
    bias: FloatArray
    loss: float
    objective: float
    gap: float

    @property
    def n_per_class(self) -> float:
        """Mean number of features of a class."""
        return self.weight.nnz / self.weight.shape[0]

    @property
    def features(self) -> np.ndarray:
        """The features that some class uses, ascending."""
        return np.unique(self.weight.indices)


def standardise(features: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Features with mean 0 and standard deviation 1, and the two that were taken out.

    Parameters
    ----------
    features : array of shape (n_images, n_features)

    Returns
    -------
    standardised : array of shape (n_images, n_features)
    mean, std : array of shape (n_features,)
        A constant feature becomes 0 everywhere; its standard deviation is given as 1.

    Raises
    ------
    InvalidInputError
        If it is no matrix of finite numbers.
    """
    values = _matrix(features)
    mean = values.mean(axis=0)
    centred = values - mean
    std = centred.std(axis=0)
    constant = std <= CONSTANT * np.abs(values).max(axis=0)
    std[constant] = 1.0
    centred[:, constant] = 0.0
    return centred / std, mean, std


class ElasticNet:
    """Solver for one data set; every fit begins where the last one ended.

    Parameters
    ----------
    features : array of shape (n_images, n_features)
        Standardise them (``standardise``) if all are to be penalised alike. Not changed.
    labels : array of shape (n_images,), int
        From 0 to n_classes - 1, every class at least once.
    alpha : float
        Share of the sparse part of the penalty, in (0, 1].
    grouped : bool
        Whether a feature's weights vanish for all classes together.
    tolerance : float
        Largest duality gap, as a share of the loss without features.

    Attributes
    ----------
    lambda_max : float
        The smallest lambda for which all weights are zero.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or all features are constant.
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        *,
        alpha: float,
        grouped: bool = False,
        tolerance: float = 1e-6,
    ) -> None:
        if not 0 < alpha <= 1:
            raise InvalidInputError(
                f"alpha is {alpha}; it must lie in (0, 1]: without the sparse part no weight is 0."
            )
        if not tolerance > 0:
            raise InvalidInputError(f"tolerance is {tolerance}; it must be positive.")
        values = _matrix(features)
        target = _one_hot(labels, len(values))
        self._alpha, self._grouped = alpha, grouped
        self._mean = values.mean(axis=0)
        # The bias takes up the mean; without it products are more exact and constant features 0.
        self._features = np.ascontiguousarray((values - self._mean).T)
        scale = np.abs(values).max(axis=0)
        self._features[self._features.std(axis=1) <= CONSTANT * scale] = 0.0
        share = target.mean(axis=1)
        bias = np.log(share)
        self._weight = np.zeros((len(target), len(self._features)))
        self._bias = bias - bias.mean()
        self._softmax = Softmax(np.tile(self._bias[:, None], len(values)), target)
        self._tolerance = tolerance * self._softmax.loss
        self._gradient = self._softmax.residual @ self._features.T
        self.lambda_max = float(self._penalty(1.0).size(self._gradient).max()) / alpha
        self._lambda = self.lambda_max
        if not self.lambda_max > 0:
            raise InvalidInputError(
                "No feature differs between the classes: all are constant, or their means are "
                "equal; there is nothing to fit."
            )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._weight.shape[0]

    @property
    def gradient(self) -> FloatArray:
        """Gradient of the loss by the weights at the last fit, (n_classes, n_features)."""
        return self._gradient

    def fit(self, lambda_: float, *, allowed: ArrayLike | None = None) -> ElasticNetFit:
        """Weights for a penalty of this strength.

        Parameters
        ----------
        lambda_ : float
            Positive.
        allowed : array of shape (n_features,), bool, optional
            Features that may be used (all). The gap is then that of the problem with these alone.

        Raises
        ------
        InvalidInputError
            If lambda_ is not positive or ``allowed`` has another shape.
        """
        if not 0 < lambda_ < np.inf:
            raise InvalidInputError(f"lambda_ is {lambda_}; a positive number was expected.")
        mask = np.ones(self._weight.shape[1], bool) if allowed is None else np.asarray(allowed)
        if mask.dtype != bool or mask.shape != (self._weight.shape[1],):
            raise InvalidInputError(
                f"allowed has shape {mask.shape} and type {mask.dtype}; "
                f"({self._weight.shape[1]},) booleans were expected."
            )
        penalty = self._penalty(lambda_)
        if (self._weight[:, ~mask] != 0).any():
            self._weight = self._weight * mask
            logits = self._weight @ self._features + self._bias[:, None]
            self._softmax = Softmax(logits, self._softmax.target)
        if lambda_ >= self.lambda_max:
            # Known without a step, and exactly.
            share = self._softmax.target.mean(axis=1)
            self._weight = np.zeros_like(self._weight)
            self._bias = np.log(share) - np.log(share).mean()
            logits = np.tile(self._bias[:, None], self._softmax.n_images)
            self._softmax = Softmax(logits, self._softmax.target)
            self._gradient = self._softmax.residual @ self._features.T
            gap = self._gap(penalty, mask)
        else:
            gap = self._minimise(penalty, mask)
        if gap > self._tolerance:
            log.warning(
                "lambda = %.3g: the duality gap is %.2g, above the %.2g asked for.",
                lambda_, gap, self._tolerance,
            )  # fmt: skip
        self._lambda = lambda_
        bias = self._bias - self._weight @ self._mean
        return ElasticNetFit(
            lambda_=lambda_,
            weight=csr_array(self._weight),
            bias=bias - bias.mean(),
            loss=self._softmax.loss,
            objective=self._softmax.loss + penalty.value(self._weight),
            gap=gap,
        )

    def _minimise(self, penalty: Penalty, mask: BoolArray) -> float:
        working = self._first_working(penalty, mask)
        inner = 0.5 * self._tolerance
        tightenings = 0
        while True:
            columns = Columns(self._features, working)
            start = Iterate(columns.gather(self._weight, self._bias), self._softmax)
            found, _ = minimise(columns, start, penalty, inner)
            self._softmax = found.softmax
            self._weight, self._bias = columns.scatter(found.slots)
            self._bias -= self._bias.mean()
            self._gradient = self._softmax.residual @ self._features.T
            gap = self._gap(penalty, mask)
            if gap <= self._tolerance or tightenings == MAX_TIGHTENINGS:
                return gap
            missing = self._over(penalty, penalty.l1, mask) & ~columns.working
            if not missing.any():
                inner /= 4
                tightenings += 1
            working = columns.working | missing

    def _first_working(self, penalty: Penalty, mask: BoolArray) -> BoolArray:
        """Features in use and those that the sequential strong rule expects (Tibshirani 2012)."""
        used = np.broadcast_to(penalty.size(self._weight) > 0, self._weight.shape)
        last = self._penalty(self._lambda)
        return used | self._over(penalty, min(2 * penalty.l1 - last.l1, penalty.l1), mask)

    def _over(self, penalty: Penalty, threshold: float, mask: BoolArray) -> BoolArray:
        over = (penalty.size(self._gradient) > threshold) & mask
        return np.broadcast_to(over, self._weight.shape)

    def _gap(self, penalty: Penalty, mask: BoolArray) -> float:
        primal = self._softmax.loss + penalty.value(self._weight)
        return max(primal - self._softmax.dual_value(self._gradient * mask, penalty), 0.0)

    def _penalty(self, lambda_: float) -> Penalty:
        return Penalty(lambda_ * self._alpha, lambda_ * (1 - self._alpha), self._grouped)


def lambda_sequence(
    lambda_max: float, *, n_lambdas: int = 100, epsilon: float = 1e-3
) -> FloatArray:
    """Strengths from lambda_max down to ``epsilon * lambda_max``, in equal logarithmic steps."""
    if n_lambdas < 2 or not 0 < epsilon < 1:
        raise InvalidInputError(
            f"n_lambdas is {n_lambdas} and epsilon {epsilon}; at least 2, and a number between 0 "
            "and 1, were expected."
        )
    return lambda_max * np.logspace(0.0, np.log10(epsilon), n_lambdas)


def elastic_net_path(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 0.99,
    n_lambdas: int = 100,
    epsilon: float = 1e-3,
    tolerance: float = 1e-6,
    max_per_class: float = np.inf,
    on_fit: Callable[[ElasticNetFit], object] | None = None,
) -> tuple[ElasticNetFit, ...]:
    """Path of sparse final layers, from no feature to many.

    Parameters
    ----------
    features, labels, alpha, tolerance
        As for ``ElasticNet``.
    n_lambdas, epsilon
        As for ``lambda_sequence``.
    max_per_class : float
        The path ends before the first point with more features than this in the mean of the
        classes. Dense points cost the most. If that is the first point with any feature at all, the
        path goes on between it and the last one without, as far as it finds points in between.
    on_fit : callable, optional
        Called with every point as it is found.

    Returns
    -------
    tuple of ElasticNetFit
        In order of falling lambda; at least the first point, which has no features.

    References
    ----------
    Wong, Santurkar, Madry: Leveraging Sparse Linear Layers for Debuggable Deep Networks (2021),
    section 2; alpha, n_lambdas and epsilon as in the published SLDD-Model and Q-SENN.
    """
    solver = ElasticNet(features, labels, alpha=alpha, tolerance=tolerance)
    sequence = lambda_sequence(solver.lambda_max, n_lambdas=n_lambdas, epsilon=epsilon)
    path = []
    for fit in _until(sequence, solver, max_per_class):
        if on_fit is not None:
            on_fit(fit)
        path.append(fit)
    return tuple(path)


def _until(
    sequence: FloatArray, solver: ElasticNet, max_per_class: float
) -> Iterator[ElasticNetFit]:
    last: ElasticNetFit | None = None
    for lambda_ in sequence:
        fit = solver.fit(float(lambda_))
        if fit.n_per_class > max_per_class:
            break
        yield fit
        last = fit
    else:
        return
    if last is None or last.weight.nnz:
        return
    within, beyond = last.lambda_, fit.lambda_
    for _ in range(MAX_BISECTIONS):
        fit = solver.fit(float(np.sqrt(within * beyond)))
        if fit.n_per_class > max_per_class:
            beyond = fit.lambda_
            continue
        within = fit.lambda_
        yield fit
        if fit.n_per_class == max_per_class:
            return


def _matrix(features: ArrayLike) -> FloatArray:
    values = np.asarray(features)
    if values.ndim != 2 or 0 in values.shape or not np.issubdtype(values.dtype, np.number):
        raise InvalidInputError(
            f"features have shape {values.shape} and type {values.dtype}; numbers of shape "
            "(n_images, n_features) were expected."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        image, feature = np.argwhere(~np.isfinite(values))[0]
        raise InvalidInputError(
            f"features[{image}, {feature}] is {values[image, feature]}; all must be finite: leave "
            "the image out or find out why the network diverged."
        )
    return values


def _one_hot(labels: ArrayLike, n_images: int) -> FloatArray:
    classes = np.asarray(labels)
    if classes.shape != (n_images,) or not np.issubdtype(classes.dtype, np.integer):
        raise InvalidInputError(
            f"labels have shape {classes.shape} and type {classes.dtype}; {n_images} integers, one "
            "an image, were expected."
        )
    if classes.min() < 0:
        raise InvalidInputError(f"labels hold {classes.min()}; classes are counted from 0.")
    counts = np.bincount(classes)
    if len(counts) < 2 or not counts.all():
        missing = 1 if len(counts) < 2 else int(np.argmin(counts))
        raise InvalidInputError(
            f"class {missing} has no image; there must be two classes or more, labelled 0, 1, ... "
            "without holes, each with an image."
        )
    return (np.arange(len(counts))[:, None] == classes).astype(np.float64)
