"""Cross entropy of a linear softmax classifier at one set of logits, and its dual."""

from __future__ import annotations

import numpy as np

from qpm_nn.sparse.penalty import FloatArray, Penalty

#: How many mixing weights are tried between a feasible dual point and the probabilities.
N_MIXTURES = 5


class Softmax:
    """Probabilities and loss of logits, and derivatives of the loss.

    Parameters
    ----------
    logits, target : array of shape (n_classes, n_images)
        The target is 1 at the class of the image and 0 elsewhere.

    Attributes
    ----------
    probability : array of shape (n_classes, n_images)
    loss : float
        Mean cross entropy.
    """

    def __init__(self, logits: FloatArray, target: FloatArray) -> None:
        self.logits, self.target = logits, target
        self.n_images = logits.shape[1]
        largest = logits.max(axis=0)
        exponential = np.exp(logits - largest)
        total = exponential.sum(axis=0)
        self.probability = exponential / total
        self._log_total = largest + np.log(total)
        self._label_logit = np.einsum("cn,cn->n", logits, target)
        self.loss = float((self._log_total - self._label_logit).mean())

    @property
    def residual(self) -> FloatArray:
        """Derivative of the loss by the logits, (n_classes, n_images)."""
        return (self.probability - self.target) / self.n_images

    def hessian_product(self, direction: FloatArray) -> FloatArray:
        """Second derivative of the loss by the logits times a change of the logits."""
        result = self.probability * direction
        result -= self.probability * result.sum(axis=0)
        return result / self.n_images

    def dual_value(self, gradient: FloatArray, penalty: Penalty) -> float:
        """A lower bound on loss plus penalty of any weights and biases.

        For any probabilities Q that give every class its share of the images (so that no bias can
        lower the loss), weak duality gives the mean entropy of Q minus the penalty's conjugate at
        the gradient (Q - target) X / n_images. Q lies between the target and the probabilities;
        the best of a few mixtures counts.

        Parameters
        ----------
        gradient : array of shape (n_classes, n_features)
            Of the loss, at these logits, for the features whose weights may change.
        """
        label = np.exp(self._label_logit - self._log_total)
        negative_entropy = np.einsum("cn,cn->n", self.probability, self.logits) - self._log_total
        others = negative_entropy - label * (self._label_logit - self._log_total)
        size = penalty.size(gradient)
        largest = size.max(initial=0.0)
        size = size[size > penalty.l1]
        feasible = penalty.l1 / largest if largest > penalty.l1 else 1.0
        mixtures = [feasible] if penalty.l2 == 0 else np.linspace(feasible, 1.0, N_MIXTURES)
        best = -np.inf
        for mixture in mixtures:
            mixed_label = mixture * label + 1 - mixture
            negative = (
                mixture * others
                + mixture * np.log(mixture) * (1 - label)
                + mixed_label * np.log(np.maximum(mixed_label, np.finfo(float).tiny))
            )
            # Rounding must not leave the feasible mixture outside where l2 = 0.
            conjugate = 0.0 if mixture == feasible else penalty.conjugate(mixture * size)
            best = max(best, -float(negative.mean()) - conjugate)
        return best
