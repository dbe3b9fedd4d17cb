"""The elastic-net path: against its certificate, its optimality conditions and other optimisers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import entr, log_softmax

from qpm_nn.sparse import ElasticNet, elastic_net_path, lambda_sequence, standardise
from qpm_nn.sparse.columns import Columns
from qpm_nn.sparse.penalty import Penalty
from qpm_opt import InvalidInputError
from tests.nn.feature_tables import DEGENERATE, data


def loss(weight, bias, features, labels):
    logits = features @ weight.T + bias
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


def norm(weight, grouped):
    return np.linalg.norm(weight, axis=0).sum() if grouped else np.abs(weight).sum()


def objective(fit, features, labels, alpha, grouped):
    weight = fit.weight.toarray()
    penalty = alpha * norm(weight, grouped) + (1 - alpha) / 2 * (weight**2).sum()
    return loss(weight, fit.bias, features, labels) + fit.lambda_ * penalty


def gradient(fit, features, labels):
    """Of the loss by weights and biases."""
    logits = features @ fit.weight.toarray().T + fit.bias
    residual = np.exp(log_softmax(logits, axis=1)) - np.eye(logits.shape[1])[labels]
    return residual.T @ (features - features.mean(axis=0)) / len(labels), residual.mean(axis=0)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("alpha", [0.3, 0.99, 1.0])
@pytest.mark.parametrize("name", DEGENERATE)
def test_every_point_has_its_gap_and_its_objective(name, alpha, grouped):
    features, labels = data(name)
    solver = ElasticNet(features, labels, alpha=alpha, grouped=grouped, tolerance=1e-8)
    for lambda_ in lambda_sequence(solver.lambda_max, n_lambdas=8, epsilon=1e-2):
        fit = solver.fit(float(lambda_))
        assert fit.gap <= 1e-8 * np.log(4)
        assert fit.objective == pytest.approx(
            objective(fit, features, labels, alpha, grouped), rel=1e-7
        )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["generic", "duplicated columns", "one rare class", "huge"])
def test_optimality_conditions(name, grouped):
    features, labels = data(name)
    alpha = 0.9
    solver = ElasticNet(features, labels, alpha=alpha, grouped=grouped, tolerance=1e-13)
    fit = solver.fit(0.2 * solver.lambda_max)
    weight = fit.weight.toarray()
    slope, bias_slope = gradient(fit, features, labels)
    l1, l2 = fit.lambda_ * alpha, fit.lambda_ * (1 - alpha)
    assert np.abs(bias_slope).max() < 1e-9
    if grouped:
        size = np.linalg.norm(weight, axis=0)
        used = np.broadcast_to(size > 0, weight.shape)
        unit = weight / np.where(size > 0, size, 1.0)
        unused = np.linalg.norm(slope, axis=0)[size == 0]
    else:
        used, unit = weight != 0, np.sign(weight)
        unused = np.abs(slope[~used])
    assert used.any()
    np.testing.assert_allclose(slope[used], -(l1 * unit + l2 * weight)[used], atol=1e-5 * l1)
    assert (unused <= l1 * (1 + 1e-5)).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_equals_a_smooth_optimiser_on_split_weights(alpha):
    """W = U - V with U, V >= 0 makes the problem smooth: L-BFGS-B, which shares nothing with us."""
    features, labels = data(n_images=30, n_features=4, n_classes=3)
    solver = ElasticNet(features, labels, alpha=alpha, tolerance=1e-10)
    lambda_ = 0.15 * solver.lambda_max
    size = 3 * 4

    def value(x):
        up, down, bias = x[:size], x[size : 2 * size], x[2 * size :]
        weight = (up - down).reshape(3, 4)
        logits = features @ weight.T + bias
        residual = (np.exp(log_softmax(logits, axis=1)) - np.eye(3)[labels]) / len(labels)
        slope = (residual.T @ features).ravel() + lambda_ * (1 - alpha) * (up - down)
        total = (
            loss(weight, bias, features, labels)
            + lambda_ * alpha * x[: 2 * size].sum()
            + lambda_ * (1 - alpha) / 2 * ((up - down) ** 2).sum()
        )
        return total, np.concatenate(
            [slope + lambda_ * alpha, -slope + lambda_ * alpha, residual.sum(axis=0)]
        )

    bounds = [(0, None)] * (2 * size) + [(None, None)] * 3
    options = {"ftol": 1e-16, "gtol": 1e-10, "maxiter": 20000, "maxfun": 20000}
    found = minimize(
        value, np.zeros(2 * size + 3), jac=True, bounds=bounds, method="L-BFGS-B", options=options
    )
    fit = solver.fit(lambda_)
    assert fit.objective == pytest.approx(found.fun, abs=1e-9)
    np.testing.assert_allclose(
        fit.weight.toarray().ravel(), found.x[:size] - found.x[size : 2 * size], atol=1e-4
    )


def test_group_path_equals_a_smooth_optimiser_where_all_groups_are_used():
    """With a small lambda no norm is zero at the optimum, and the objective is smooth there."""
    features, labels = data(n_images=40, n_features=3, n_classes=3)
    alpha = 0.6
    solver = ElasticNet(features, labels, alpha=alpha, grouped=True, tolerance=1e-10)
    fit = solver.fit(0.05 * solver.lambda_max)
    assert len(fit.features) == 3

    def value(x):
        weight, bias = x[:9].reshape(3, 3), x[9:]
        penalty = alpha * norm(weight, True) + (1 - alpha) / 2 * (weight**2).sum()
        return loss(weight, bias, features, labels) + fit.lambda_ * penalty

    start = np.concatenate([np.full(9, 0.1) * np.arange(1, 10), np.zeros(3)])
    found = minimize(value, start, method="BFGS", options={"gtol": 1e-8})
    assert fit.objective == pytest.approx(found.fun, abs=1e-7)


def test_equals_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    features, labels = data(n_images=80, n_features=6)
    features, _, _ = standardise(features)
    for alpha, ratio in [(0.99, 0.3), (0.5, 0.1)]:
        solver = ElasticNet(features, labels, alpha=alpha, tolerance=1e-9)
        fit = solver.fit(ratio * solver.lambda_max)
        other = LogisticRegression(
            solver="saga", l1_ratio=alpha, C=1 / (fit.lambda_ * len(labels)), tol=1e-12,
            max_iter=20000, random_state=0,
        ).fit(features, labels)  # fmt: skip
        theirs = loss(other.coef_, other.intercept_, features, labels) + fit.lambda_ * (
            alpha * norm(other.coef_, False) + (1 - alpha) / 2 * (other.coef_**2).sum()
        )
        assert abs(fit.objective - theirs) < 1e-6
        assert fit.objective - fit.gap <= theirs + 1e-12  # which both are rounded to
        np.testing.assert_allclose(fit.weight.toarray(), other.coef_, atol=1e-3)


def test_not_worse_than_glm_saga(tmp_path):
    elasticnet = pytest.importorskip(
        "glm_saga.elasticnet", reason="NOT COMPARED with glm_saga 0.1.2, which is not installed"
    )
    import torch

    features, labels = data(n_images=64, n_features=6)
    features, _, _ = standardise(features)
    table = elasticnet.IndexedTensorDataset(
        torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    )
    linear = torch.nn.Linear(6, 4)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    loader = torch.utils.data.DataLoader(table, batch_size=32)
    result = elasticnet.glm_saga(
        linear, loader, 0.1, 500, 0.9, n_classes=4, n_ex=64, k=4, epsilon=0.1, tol=1e-6,
        do_zero=False, checkpoint=str(tmp_path),
    )  # fmt: skip
    solver = ElasticNet(features, labels, alpha=0.9, tolerance=1e-8)
    for point in result["path"]:
        weight, lambda_ = point["weight"].double().numpy(), float(point["lam"])
        theirs = loss(weight, point["bias"].double().numpy(), features, labels) + lambda_ * (
            0.9 * norm(weight, False) + 0.05 * (weight**2).sum()
        )
        fit = solver.fit(lambda_)
        assert fit.objective - fit.gap <= theirs + 1e-9
        assert fit.objective == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize("grouped", [False, True])
def test_from_lambda_max_on_all_weights_are_exactly_zero(grouped):
    features, labels = data("one rare class")
    solver = ElasticNet(features, labels, alpha=0.7, grouped=grouped)
    frequency = np.bincount(labels) / len(labels)
    solver.fit(0.3 * solver.lambda_max)
    for lambda_ in (solver.lambda_max, 5 * solver.lambda_max):
        fit = solver.fit(lambda_)
        assert fit.weight.nnz == 0
        assert fit.gap <= 1e-12
        assert fit.loss == pytest.approx(-(frequency * np.log(frequency)).sum(), rel=1e-12)
        np.testing.assert_allclose(
            fit.bias, np.log(frequency) - np.log(frequency).mean(), atol=1e-12
        )
    assert solver.fit(0.99 * solver.lambda_max).weight.nnz > 0


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 0.99, 1.0])
def test_the_gap_is_primal_minus_dual(alpha, grouped):
    """The dual written out, at points that are far from optimal because little was asked for."""
    features, labels = data(n_features=20)
    solver = ElasticNet(features, labels, alpha=alpha, grouped=grouped, tolerance=0.3)
    gaps = []
    for ratio in (0.8, 0.5, 0.3, 0.2, 0.1):
        fit = solver.fit(ratio * solver.lambda_max)
        l1, l2 = fit.lambda_ * alpha, fit.lambda_ * (1 - alpha)
        target = np.eye(4)[labels]
        probability = np.exp(log_softmax(features @ fit.weight.toarray().T + fit.bias, axis=1))
        slope, _ = gradient(fit, features, labels)
        size = np.linalg.norm(slope, axis=0) if grouped else np.abs(slope)
        feasible = min(1.0, l1 / size.max())
        duals = []
        for mixture in np.linspace(feasible, 1.0, 5):
            mixed = mixture * probability + (1 - mixture) * target
            excess = np.maximum(mixture * size - l1, 0) if mixture > feasible else np.zeros(1)
            if l2 > 0 or mixture == feasible:
                conjugate = (excess**2).sum() / (2 * l2) if l2 > 0 else 0.0
                duals.append(entr(mixed).sum(axis=1).mean() - conjugate)
        primal = objective(fit, features, labels, alpha, grouped)
        assert fit.gap == pytest.approx(primal - max(duals), abs=1e-9)
        gaps.append(fit.gap)
    assert max(gaps) > 1e-4


def test_lambda_max_is_the_formula():
    features, labels = data()
    target = np.eye(4)[labels]
    slope = features.T @ (target - target.mean(axis=0)) / len(labels)
    plain = ElasticNet(features, labels, alpha=0.8)
    grouped = ElasticNet(features, labels, alpha=0.8, grouped=True)
    assert plain.lambda_max == pytest.approx(np.abs(slope).max() / 0.8)
    assert grouped.lambda_max == pytest.approx(np.linalg.norm(slope, axis=1).max() / 0.8)


def test_constant_features_are_never_used():
    features, labels = data("constant features")
    for fit in elastic_net_path(features, labels, n_lambdas=10, epsilon=1e-3):
        assert not {1, 3} & set(fit.features)


def test_scaling_the_features_scales_the_weights():
    features, labels = data()
    plain = elastic_net_path(features, labels, alpha=1.0, n_lambdas=6, epsilon=0.05, tolerance=1e-9)
    for factor in (1e-9, 1e9):
        path = elastic_net_path(
            factor * features, labels, alpha=1.0, n_lambdas=6, epsilon=0.05, tolerance=1e-9
        )
        for fit, scaled in zip(plain, path, strict=True):
            assert scaled.lambda_ == pytest.approx(factor * fit.lambda_)
            assert scaled.objective == pytest.approx(fit.objective, abs=1e-8)
            np.testing.assert_allclose(
                scaled.weight.toarray() * factor, fit.weight.toarray(), atol=1e-3
            )


def test_a_path_ends_before_it_gets_too_dense():
    features, labels = data()
    full = elastic_net_path(features, labels, n_lambdas=20)
    short = elastic_net_path(features, labels, n_lambdas=20, max_per_class=3)
    assert 1 < len(short) < len(full)
    assert short[-1].n_per_class <= 3 < full[len(short)].n_per_class
    assert [fit.objective for fit in short] == [fit.objective for fit in full[: len(short)]]


def test_two_runs_are_equal_to_the_last_bit():
    features, labels = data(n_features=30)
    first, second = (elastic_net_path(features, labels, n_lambdas=10) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.weight.toarray().tobytes() == other.weight.toarray().tobytes()
        assert one.bias.tobytes() == other.bias.tobytes()


def test_only_allowed_features_are_used_and_forgotten_when_no_longer_allowed():
    features, labels = data()
    solver = ElasticNet(features, labels, alpha=0.9, tolerance=1e-9)
    lambda_ = 0.1 * solver.lambda_max
    solver.fit(lambda_)
    allowed = np.zeros(8, bool)
    allowed[[2, 5]] = True
    fit = solver.fit(lambda_, allowed=allowed)
    assert set(fit.features) <= {2, 5}
    alone = ElasticNet(features[:, [2, 5]], labels, alpha=0.9, tolerance=1e-9).fit(lambda_)
    assert fit.objective == pytest.approx(alone.objective, abs=1e-8)
    assert fit.gap <= 1e-9 * np.log(4)
    nothing = solver.fit(lambda_, allowed=np.zeros(8, bool))
    assert nothing.weight.nnz == 0
    assert nothing.loss == pytest.approx(np.log(4))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 6), st.integers(0, 25),
    st.sampled_from([0.2, 0.8, 0.99, 1.0]), st.booleans(), st.floats(0.02, 0.9),
)  # fmt: skip
def test_the_gap_bounds_every_other_point(
    seed, n_classes, n_features, extra, alpha, grouped, ratio
):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, extra + 1)])
    features = rng.normal(size=(len(labels), n_features)).round(1)
    solver = ElasticNet(features, labels, alpha=alpha, grouped=grouped, tolerance=1e-7)
    fit = solver.fit(ratio * solver.lambda_max)
    frequency = np.bincount(labels) / len(labels)
    assert fit.gap <= 1e-7 * -(frequency * np.log(frequency)).sum()
    centre = fit.weight.toarray()
    for width in (1e-3, 0.1, 1.0):
        weight = centre + width * rng.normal(size=centre.shape) * (rng.random(centre.shape) < 0.5)
        bias = fit.bias + width * rng.normal(size=n_classes)
        other = loss(weight, bias, features, labels) + fit.lambda_ * (
            alpha * norm(weight, grouped) + (1 - alpha) / 2 * (weight**2).sum()
        )
        assert other >= fit.objective - fit.gap - 1e-12


@pytest.mark.parametrize("dense", [False, True])
def test_columns_do_what_dense_matrices_do(dense):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 9))
    working = rng.random((3, 6)) < (0.9 if dense else 0.2)
    working[1] = False
    columns = Columns(features, working)
    weight, bias = rng.normal(size=(3, 6)) * working, rng.normal(size=3)
    slots = columns.gather(weight, bias)
    back, bias_back = columns.scatter(slots)
    np.testing.assert_array_equal(back, weight)
    np.testing.assert_array_equal(bias_back, bias)
    np.testing.assert_allclose(columns.logits(slots), weight @ features + bias[:, None])
    residual = rng.normal(size=(3, 9))
    np.testing.assert_allclose(
        columns.scatter(columns.adjoint(residual))[0], residual @ features.T * columns.working
    )
    image_weight = rng.random((3, 9))
    curvature = np.vdot(slots, np.einsum("cjk,ck->cj", columns.gram(image_weight), slots))
    logits = weight @ features + bias[:, None]
    assert curvature == pytest.approx((image_weight * logits**2).sum())


@pytest.mark.parametrize("grouped", [False, True])
def test_penalty_minimum_and_conjugate(grouped):
    rng = np.random.default_rng(0)
    penalty = Penalty(0.7, 0.2, grouped)
    for _ in range(20):
        linear, curvature = 2 * rng.normal(size=3), rng.uniform(0.01, 5, 3)

        def value(v, linear=linear, curvature=curvature):
            return (curvature * v**2 / 2 - linear * v).sum() + penalty.value(v[:, None])

        best = penalty.minimise(linear, curvature)
        for width in (1e-4, 1e-2, 1.0):
            assert value(best) <= value(best + width * rng.normal(size=3)) + 1e-14
    slope = rng.normal(size=(3, 1))
    sampled = max(
        np.vdot(slope, w) - penalty.value(w) for w in 3 * rng.normal(size=(3000, 3, 1)) ** 3
    )
    conjugate = penalty.conjugate(penalty.size(slope))
    assert sampled <= conjugate
    assert sampled == pytest.approx(conjugate, abs=0.2)


def test_standardise():
    features, _ = data("constant features")
    scaled, mean, std = standardise(features)
    assert (scaled[:, [1, 3]] == 0).all()
    assert (std[[1, 3]] == 1).all()
    others = np.delete(scaled, [1, 3], axis=1)
    np.testing.assert_allclose(others.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(others.std(axis=0), 1)
    np.testing.assert_allclose((features - mean) / std, scaled, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": np.full((4, 2), np.nan)}, r"features\[0, 0\] is nan"),
        ({"features": np.array([[1.0, 2], [1, np.inf], [0, 1], [2, 3]])}, r"features\[1, 1\]"),
        ({"features": np.ones(4)}, "shape"),
        ({"features": np.ones((4, 2))}, "No feature differs"),
        ({"labels": np.array([0, 2, 0, 2])}, "class 1 has no image"),
        ({"labels": np.zeros(4, int)}, "class 1 has no image"),
        ({"labels": np.array([0, -1, 0, 1])}, "-1"),
        ({"labels": np.array([0, 1, 0])}, "4 integers"),
        ({"labels": np.array([0.0, 1, 0, 1])}, "integers"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.1}, "alpha"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"n_lambdas": 1}, "n_lambdas"),
    ],
)
def test_unusable_input(change, words):
    arguments = {"features": np.eye(4)[:, :2], "labels": np.array([0, 1, 0, 1])} | change
    with pytest.raises(InvalidInputError, match=words):
        elastic_net_path(arguments.pop("features"), arguments.pop("labels"), **arguments)


def test_unusable_lambda_and_mask():
    solver = ElasticNet(*data(), alpha=0.9)
    for lambda_ in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match="lambda_"):
            solver.fit(lambda_)
    with pytest.raises(InvalidInputError, match="allowed"):
        solver.fit(0.1, allowed=np.ones(3, bool))
    with pytest.raises(InvalidInputError, match="allowed"):
        solver.fit(0.1, allowed=np.ones(8))
