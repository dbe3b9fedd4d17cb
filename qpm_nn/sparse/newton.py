"""Minimise loss plus penalty over the working features of every class.

An iteration has two steps. The first minimises a quadratic model plus the exact penalty by
coordinate descent; its Hessian leaves out the products of different classes, so a coordinate is
updated for all classes at once. This finds which weights are zero. The second is a Newton step on
the others with the whole Hessian, by conjugate gradients with the first step's blocks as the
preconditioner. Both only ever lower the objective. The duality gap ends the iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qpm_nn.sparse.columns import Columns
from qpm_nn.sparse.penalty import BoolArray, FloatArray, Penalty
from qpm_nn.sparse.softmax import Softmax

#: Least curvature of an image in the quadratic model, for images that are classified surely.
MIN_CURVATURE = 1e-6
#: A Newton system is solved when its residual is this share of the first one.
CG_REDUCTION = 1e-3
MAX_CG, MAX_SWEEPS, MAX_ITERATIONS, MAX_HALVINGS, MAX_BIAS_STEPS = 50, 15, 100, 30, 50


@dataclass
class Iterate:
    """Bias and weights as slots of ``Columns``, and the classifier that they make.

    Attributes
    ----------
    slots : array of shape (n_classes, n_slots)
    softmax : Softmax
    """

    slots: FloatArray
    softmax: Softmax

    def objective(self, penalty: Penalty) -> float:
        """Loss plus penalty."""
        return self.softmax.loss + penalty.value(self.slots[:, 1:])


def minimise(
    columns: Columns, iterate: Iterate, penalty: Penalty, tolerance: float
) -> tuple[Iterate, float]:
    """Minimum over the slots and its duality gap, which is <= tolerance if rounding allows.

    Parameters
    ----------
    columns : Columns
    iterate : Iterate
        Where to begin.
    penalty : Penalty
    tolerance : float
        Of the absolute duality gap.
    """
    stalled = False
    for _ in range(MAX_ITERATIONS):
        iterate = balance(iterate)
        gradient = columns.adjoint(iterate.softmax.residual)
        gap = iterate.objective(penalty) - iterate.softmax.dual_value(gradient[:, 1:], penalty)
        if gap <= tolerance or stalled:
            break
        before = iterate.objective(penalty)
        curvature = np.maximum(
            iterate.softmax.probability * (1 - iterate.softmax.probability), MIN_CURVATURE
        )
        hessian = columns.gram(curvature / iterate.softmax.n_images)
        iterate = _separable_step(columns, iterate, penalty, gradient, hessian)
        iterate = _newton_step(columns, iterate, penalty, hessian)
        stalled = iterate.objective(penalty) >= before
    return iterate, gap


def balance(iterate: Iterate) -> Iterate:
    """The biases that are best for the weights: every class gets its share of the images.

    Newton's method; where it does not help, log(share / mean probability) is added, which never
    raises the loss (Jensen's inequality).
    """
    slots, softmax = iterate.slots, iterate.softmax
    share = softmax.target.mean(axis=1)
    n_classes = len(share)
    mean = softmax.probability.mean(axis=1)
    error = np.abs(mean - share).max()
    for _ in range(MAX_BIAS_STEPS):
        if error <= 1e-15:
            break
        # Adding a constant to all biases changes nothing; the last term takes that freedom away.
        hessian = np.diag(mean) + 1 / n_classes**2
        hessian -= softmax.probability @ softmax.probability.T / softmax.n_images
        hessian[np.diag_indices(n_classes)] += np.finfo(float).eps
        steps = [np.linalg.solve(hessian, share - mean)]
        steps.append(np.log(share / np.maximum(mean, np.finfo(float).tiny)))
        improved = False
        for step in steps:
            candidate = Softmax(softmax.logits + step[:, None], softmax.target)
            new_mean = candidate.probability.mean(axis=1)
            new_error = np.abs(new_mean - share).max()
            # Far from the optimum the loss decides, near it the loss is too coarse.
            if candidate.loss < softmax.loss or new_error < 0.5 * error < 1e-6:
                improved = new_error < 0.9 * error or candidate.loss < softmax.loss * (1 - 1e-14)
                slots = slots.copy()
                slots[:, 0] += step
                softmax, mean, error = candidate, new_mean, new_error
                break
        if not improved:
            break
    return Iterate(slots, softmax)


def _separable_step(
    columns: Columns,
    iterate: Iterate,
    penalty: Penalty,
    gradient: FloatArray,
    hessian: FloatArray,
) -> Iterate:
    """Step to the minimum of the model without products of classes, shortened if need be."""
    direction = _coordinate_descent(iterate.slots, columns.free, penalty, gradient, hessian)
    weight = iterate.slots[:, 1:]
    expected = np.vdot(gradient, direction) + (
        penalty.value(weight + direction[:, 1:]) - penalty.value(weight)
    )
    if expected >= 0:
        return iterate
    change = columns.logits(direction)
    before = iterate.objective(penalty)
    length = 1.0
    for _ in range(MAX_HALVINGS):
        candidate = Iterate(
            iterate.slots + length * direction,
            Softmax(iterate.softmax.logits + length * change, iterate.softmax.target),
        )
        if candidate.objective(penalty) <= before + 0.01 * length * expected:
            return candidate
        length /= 2
    return iterate


def _coordinate_descent(
    slots: FloatArray,
    free: BoolArray,
    penalty: Penalty,
    gradient: FloatArray,
    hessian: FloatArray,
) -> FloatArray:
    """Change of the slots that nearly minimises the quadratic model plus the penalty."""
    change = np.zeros_like(slots)
    slope = gradient.copy()
    # Slots without a feature: the weight is 0, the slope is 0, and any curvature keeps them there.
    diagonal = np.maximum(np.einsum("cjj->cj", hessian), np.finfo(float).tiny)
    diagonal[~free] = 1.0
    first = 0.0
    for sweep in range(MAX_SWEEPS):
        largest = 0.0
        for j in range(slots.shape[1]):
            curvature = diagonal[:, j]
            if j == 0:
                step = -slope[:, 0] / curvature
            else:
                weight = slots[:, j] + change[:, j]
                step = penalty.minimise(curvature * weight - slope[:, j], curvature) - weight
            if step.any():
                change[:, j] += step
                slope += hessian[:, j] * step[:, None]
                largest = max(largest, float((curvature * step * step).max()))
        if sweep == 0:
            first = largest
        if largest <= 1e-4 * first:
            break
    return change


def _newton_step(
    columns: Columns, iterate: Iterate, penalty: Penalty, blocks: FloatArray
) -> Iterate:
    """Newton step on the bias and the weights that are not zero; no weight changes its sign."""
    slots, softmax = iterate.slots, iterate.softmax
    weight = slots[:, 1:]
    active = np.broadcast_to(penalty.size(weight) > 0, weight.shape)
    active = np.concatenate([np.ones((len(slots), 1), bool), active], axis=1) & columns.free
    gradient = columns.adjoint(softmax.residual)
    gradient[:, 1:] += penalty.gradient(weight)
    gradient *= active

    def hessian_product(direction: FloatArray) -> FloatArray:
        product = columns.adjoint(softmax.hessian_product(columns.logits(direction)))
        product[:, 1:] += penalty.curvature(weight, direction[:, 1:])
        return product * active

    direction = _conjugate_gradients(
        hessian_product, -gradient, _block_inverse(blocks, active, penalty, weight)
    )
    before = iterate.objective(penalty)
    length = 1.0
    for _ in range(MAX_HALVINGS):
        trial = slots + length * direction
        if not penalty.grouped:
            trial[:, 1:][trial[:, 1:] * weight < 0] = 0.0
        candidate = Iterate(
            trial, Softmax(softmax.logits + columns.logits(trial - slots), softmax.target)
        )
        if candidate.objective(penalty) < before:
            return candidate
        length /= 4
    return iterate


def _block_inverse(
    blocks: FloatArray, active: BoolArray, penalty: Penalty, weight: FloatArray
) -> FloatArray:
    """Inverse of every class's block of the Hessian, restricted to its active slots."""
    matrix = blocks * (active[:, :, None] & active[:, None, :])
    diagonal = np.einsum("cjj->cj", matrix)
    # A little more than rounding, for features that repeat each other.
    diagonal *= 1 + 1e-8
    diagonal[:, 1:] += penalty.curvature_bound(weight) * active[:, 1:]
    diagonal[~active] = 1.0
    return np.linalg.inv(matrix)


def _conjugate_gradients(
    product: Callable[[FloatArray], FloatArray], right: FloatArray, inverse: FloatArray
) -> FloatArray:
    """Approximate solution of ``product(x) = right``; inverse: preconditioner of each class."""
    solution = np.zeros_like(right)
    residual = right.copy()
    scaled = np.einsum("cjk,ck->cj", inverse, residual)
    search = scaled
    remaining = first = float(np.vdot(residual, scaled))
    for _ in range(MAX_CG):
        image = product(search)
        curvature = float(np.vdot(search, image))
        if curvature <= 0:
            break
        length = remaining / curvature
        solution += length * search
        residual -= length * image
        scaled = np.einsum("cjk,ck->cj", inverse, residual)
        previous, remaining = remaining, float(np.vdot(residual, scaled))
        if remaining <= CG_REDUCTION**2 * first:
            break
        search = scaled + remaining / previous * search
    return solution
