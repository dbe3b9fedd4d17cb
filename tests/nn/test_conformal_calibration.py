"""Calibrations, prediction sets and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from qpm_nn.conformal import (
    Calibration,
    DepthRule,
    calibrate,
    calibrate_each,
    chiqpm,
    conformal_quantile,
    hierarchical,
    hierarchical_threshold,
    load_calibration,
    order_statistic,
    predict_set,
    save_calibration,
    scores,
)
from qpm_opt import InvalidInputError

HIERARCHICAL = ("hierarchical", "chiqpm")
METHODS = (*HIERARCHICAL, "lac", "aps", "raps", "saps")
ASSIGNMENT = torch.tensor(
    [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [1, 0, 1, 0, 0, 1],
    ],
    dtype=torch.bool,
)


def make_data(n_images, seed=0, noise=1.5):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n_images, 6, generator=generator)
    logits = features.clamp_min(0) @ ASSIGNMENT.float().T
    labels = (logits + noise * torch.randn(n_images, 4, generator=generator)).argmax(1)
    return {"logits": logits, "features": features, "assignment": ASSIGNMENT}, labels


@pytest.mark.parametrize(
    ("n_points", "alpha", "m"),
    [
        (99, 0.1, 90),  # 100 * (1 - 0.1) is 90 and 100 * (1 - 0.9) is 9.999...
        (99, 0.9, 10),
        (99, 1 - 0.9, 90),
        (999, 0.055, 945),
        (9, 0.1, 9),
        (8, 0.1, 9),
        (10, 0.1, 10),
        (0, 0.1, 1),
        (5, 1 - 1e-15, 1),
        (10**6, 1e-9, 10**6 + 1),
        (99, np.float32(0.1), 90),
    ],
)
def test_order_statistic(n_points, alpha, m):
    assert order_statistic(n_points, alpha) == m


def test_quantile_by_hand():
    values = torch.tensor([3.0, 1.0, 2.0, math.inf])
    assert [conformal_quantile(values, alpha) for alpha in (0.8, 0.6, 0.5, 0.3, 0.1)] == [
        1.0,
        2.0,
        3.0,
        math.inf,
        math.inf,
    ]


def test_level_and_threshold_by_hand():
    depth = torch.tensor([0, 1, 1, 2, 2])
    values = torch.tensor(
        [
            [-1.0, math.inf, math.inf],
            [-2.0, -1.0, math.inf],
            [-3.0, -2.0, math.inf],
            [-4.0, -3.0, 0.0],
            [-5.0, -4.0, 0.0],
        ]
    )
    # m is 5, 4, 3, 2, 1; 5, 4 and 2 points are at least 0, 1 and 2 deep. One deep point more makes
    # 6, 5 and 3 of them.
    expected = {
        0.2: DepthRule((0, 1, 1), (-1.0, math.inf, math.inf)),
        0.4: DepthRule((1, 1, 1), (-1.0, -1.0, -1.0)),
        0.5: DepthRule((1, 1, 2), (-2.0, -2.0, math.inf)),
        0.7: DepthRule((2, 2, 2), (0.0, 0.0, 0.0)),
        0.9: DepthRule((2, 2, 2), (0.0, 0.0, 0.0)),
        0.1: DepthRule((0, 0, 0), (math.inf, math.inf, math.inf)),
    }
    for alpha, rule in expected.items():
        assert hierarchical_threshold(depth, values, alpha) == rule
    # Half of alpha: 5 points must be as deep as the level for 0.4, 4 for 0.7, and m as above if it
    # is the last level.
    shared = {
        0.4: DepthRule((0, 1, 1), (-2.0, -1.0, -1.0)),
        0.7: DepthRule((2, 2, 2), (0.0, 0.0, 0.0)),
        0.5: DepthRule((0, 1, 2), (-3.0, -2.0, math.inf)),
    }
    for alpha, rule in shared.items():
        assert hierarchical_threshold(depth, values, alpha, 0.5) == rule


@pytest.mark.parametrize("method", HIERARCHICAL)
def test_hierarchical_sets_by_definition(method):
    data, labels = make_data(60)
    new, _ = make_data(200, seed=1)
    predicted = new["logits"].argmax(1)
    score = {"hierarchical": hierarchical, "chiqpm": chiqpm}[method]
    depth = scores.HIERARCHIES[method](new["features"].double(), ASSIGNMENT, predicted).depth
    used = set()
    for alpha in np.linspace(0.02, 0.9, 60):
        calibration = calibrate(
            labels=labels, alpha=alpha, method=method, include_top_1="never", **data
        )
        (rule,) = calibration.rules
        at_depth = torch.stack(
            [
                score(new["features"], ASSIGNMENT, predicted, level) <= threshold
                for level, threshold in zip(*rule, strict=True)
            ]
        )
        expected = at_depth.gather(0, depth[None]).squeeze(0)
        used.add(rule.levels)
        assert torch.equal(predict_set(calibration, **new), expected)
        # All that are within the level of most classes and its threshold.
        assert (expected | (at_depth[0] <= expected)).all()
    assert len(used) > 3


def limits(calibration):
    """Threshold, or rule, of each class or of all."""
    return calibration.rules or calibration.thresholds


def admits_everything(limit):
    """Whether a threshold, or rule, lets all classes into all sets."""
    thresholds = limit.thresholds if isinstance(limit, DepthRule) else [limit]
    return set(thresholds) == {math.inf}


@pytest.mark.parametrize("method", METHODS)
def test_class_conditional_sets_are_those_of_each_class_alone(method):
    data, labels = make_data(150)
    labels[labels == 3] = 2  # class 3 has no points
    new, _ = make_data(50, seed=1)
    options = {"method": method, "include_top_1": "never"}
    calibration = calibrate(labels=labels, alpha=0.2, class_conditional=True, **options, **data)
    found = predict_set(calibration, **new)
    for c in range(3):
        mine = labels == c
        alone = calibrate(
            data["logits"][mine],
            labels[mine],
            0.2,
            features=data["features"][mine],
            assignment=ASSIGNMENT,
            **options,
        )
        assert limits(calibration)[c] == limits(alone)[0]
        assert not admits_everything(limits(alone)[0])
        assert torch.equal(found[:, c], predict_set(alone, **new)[:, c])
    assert admits_everything(limits(calibration)[3])
    assert found[:, 3].all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("class_conditional", [False, True])
def test_too_few_points_give_all_classes(method, class_conditional):
    data, labels = make_data(8)
    calibration = calibrate(
        labels=labels, alpha=0.1, method=method, class_conditional=class_conditional, **data
    )
    assert all(map(admits_everything, limits(calibration)))
    assert predict_set(calibration, **data).all()


@pytest.mark.parametrize(
    ("method", "threshold"),
    [
        # In hierarchical sets the prediction lacks nothing: no threshold excludes only some.
        ("chiqpm", -4.0),
        ("lac", 0.3),
        ("aps", 0.6),
        ("raps", 0.6),
        ("saps", 0.6),
    ],
)
def test_policies_for_the_prediction(method, threshold):
    data, labels = make_data(20)
    new, _ = make_data(100, seed=1)
    found = calibrate(labels=labels, alpha=0.2, method=method, include_top_1="never", **data)
    # Thresholds that also shut out some of the predictions.
    if method in HIERARCHICAL:
        never = replace(found, rules=(DepthRule((0,) * 4, (threshold,) * 4),))
    else:
        never = replace(found, thresholds=(threshold,))
    bare = predict_set(never, **new)
    empty = ~bare.any(1)
    assert 0 < empty.sum() < 100
    top = torch.nn.functional.one_hot(new["logits"].argmax(1), 4).bool()
    filled = predict_set(replace(never, include_top_1="if_empty"), **new)
    assert torch.equal(filled, bare | (top & empty[:, None]))
    assert torch.equal(predict_set(replace(never, include_top_1="always"), **new), bare | top)


@pytest.mark.parametrize("method", ["aps", "raps", "saps"])
def test_random_numbers_come_from_the_seed(method):
    data, labels = make_data(100)
    one, again, other = (
        calibrate(labels=labels, alpha=0.2, method=method, seed=seed, **data) for seed in (3, 3, 4)
    )
    assert one == again
    assert one.thresholds != other.thresholds
    new, _ = make_data(300, seed=1)
    found = predict_set(one, **new)
    assert torch.equal(found, predict_set(again, **new))
    assert not torch.equal(found, predict_set(one, batch=1, **new))
    fixed = calibrate(labels=labels, alpha=0.2, method=method, **data)
    assert torch.equal(predict_set(fixed, **new), predict_set(fixed, batch=1, **new))


def test_new_images_share_no_random_number_with_calibration_points():
    # A point that is calibrated on itself has the threshold as its score if it does.
    logits, labels = torch.zeros(1, 4), [2]
    inside = []
    for seed in range(30):
        calibration = calibrate(logits, labels, 0.5, method="aps", seed=seed, include_top_1="never")
        inside.append(bool(predict_set(calibration, logits)[0, 2]))
    assert 5 < sum(inside) < 25


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("class_conditional", [False, True])
def test_json_keeps_a_calibration(method, class_conditional):
    data, labels = make_data(40)
    labels[labels == 3] = 2
    for calibration in calibrate_each(
        labels=labels,
        alphas=(0.01, 0.2),
        method=method,
        class_conditional=class_conditional,
        **data,
    ):
        text = json.dumps(calibration.to_dict(), allow_nan=False)
        assert Calibration.from_dict(json.loads(text)) == calibration
    assert any(map(admits_everything, limits(calibration))) == class_conditional
    with pytest.raises(FrozenInstanceError):
        calibration.alpha = 0.5


@pytest.mark.parametrize("method", METHODS)
def test_many_alphas_are_calibrated_like_each(method):
    data, labels = make_data(80)
    alphas = (0.05, 0.1, 0.3)
    assert calibrate_each(labels=labels, alphas=alphas, method=method, **data) == tuple(
        calibrate(labels=labels, alpha=alpha, method=method, **data) for alpha in alphas
    )


@pytest.mark.parametrize("method", ["lac", "aps", "raps", "saps"])
@pytest.mark.parametrize("include_top_1", ["always", "if_empty", "never"])
def test_sets_of_logits_grow_as_alpha_falls(method, include_top_1):
    data, labels = make_data(80)
    new, _ = make_data(200, seed=1)
    seed = None if method == "lac" else 0
    before = torch.zeros(200, 4, dtype=torch.bool)
    for calibration in calibrate_each(
        data["logits"],
        labels,
        np.linspace(0.95, 0.01, 40),
        method=method,
        seed=seed,
        include_top_1=include_top_1,
    ):
        sets = predict_set(calibration, new["logits"])
        assert (sets >= before).all()
        before = sets


def test_hierarchical_sets_may_lose_a_class_as_alpha_falls():
    # Strongest features 0 and 1 are shared by classes 0 and 1. The calibration points of which
    # class 1 is the true one have a strong feature 0, but in the new image it is weak.
    assignment = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]], dtype=torch.bool)
    features = torch.tensor([[9.0, 8.0, 2.0, 1.0]]).repeat(9, 1)
    labels = torch.tensor([1, 1, 1, 1, 1, 1, 2, 2, 2])
    new = torch.tensor([[3.0, 2.9, 2.0, 1.0]])
    large, small = calibrate_each(
        features @ assignment.float().T,
        labels,
        (0.5, 0.25),
        method="chiqpm",
        features=features,
        assignment=assignment,
    )
    assert (large.rules[0].level, small.rules[0].level) == (2, 0)
    given = {"logits": new @ assignment.float().T, "features": new, "assignment": assignment}
    wide, narrow = predict_set(large, **given)[0], predict_set(small, **given)[0]
    assert wide.tolist() == [True, True, False]
    assert narrow.tolist() == [True, False, False]


def test_arrays_and_float32_give_the_same_sets():
    data, labels = make_data(50)
    calibration = calibrate(labels=labels, alpha=0.2, **data)
    arrays = {name: value.double().numpy() for name, value in data.items() if name != "assignment"}
    arrays["assignment"] = ASSIGNMENT.numpy()
    assert calibrate(labels=labels.numpy(), alpha=0.2, **arrays) == calibration
    assert torch.equal(predict_set(calibration, **arrays), predict_set(calibration, **data))


@pytest.mark.parametrize("method", METHODS)
def test_chunks_make_no_difference_and_no_images_no_sets(method, monkeypatch):
    data, labels = make_data(50)
    whole = calibrate(labels=labels, alpha=0.2, method=method, **data)
    sets = predict_set(whole, **data)
    monkeypatch.setattr(scores, "CHUNK", 30)
    assert calibrate(labels=labels, alpha=0.2, method=method, **data) == whole
    assert torch.equal(predict_set(whole, **data), sets)
    none = {"logits": torch.zeros(0, 4), "features": torch.zeros(0, 6), "assignment": ASSIGNMENT}
    assert predict_set(whole, **none).shape == (0, 4)


@pytest.mark.parametrize("method", METHODS)
def test_one_class(method):
    one = {
        "logits": torch.zeros(20, 1),
        "features": torch.ones(20, 2),
        "assignment": torch.ones(1, 2, dtype=torch.bool),
    }
    calibration = calibrate(labels=[0] * 20, alpha=0.1, method=method, **one)
    assert predict_set(calibration, **one).all()


DATA, LABELS = make_data(20)


@pytest.mark.parametrize(
    "changes",
    [
        {"logits": DATA["logits"].index_fill(0, torch.tensor(3), torch.nan)},
        {"logits": DATA["logits"][:, 0]},
        {"logits": DATA["logits"][:19]},
        {"labels": LABELS.clone().fill_(4)},
        {"labels": LABELS - 5},
        {"labels": LABELS.double()},
        {"alpha": 0},
        {"alpha": 1.0},
        {"alpha": math.nan},
        {"alpha": -0.1},
        {"alpha": "0.1"},
        {"features": None},
        {"assignment": None},
        {"features": DATA["features"][:19]},
        {"features": DATA["features"][:, :5]},
        {"features": torch.full((20, 6), torch.inf)},
        {"assignment": ASSIGNMENT[:3]},
        {"assignment": ASSIGNMENT.int()},
        {"assignment": torch.zeros(4, 6, dtype=torch.bool)},
        {"logits": torch.zeros(0, 4), "labels": [], "features": torch.zeros(0, 6)},
        {"method": "thr"},
        {"include_top_1": True},
        {"seed": 1},
        {"seed": -1, "method": "aps"},
        {"parameters": {"penalty": 0.1}},
        {"parameters": {"penalty": -0.1}, "method": "raps"},
        {"parameters": {"weight": math.inf}, "method": "saps"},
    ],
)
def test_calibration_refuses(changes):
    with pytest.raises(InvalidInputError):
        calibrate(**{"labels": LABELS, "alpha": 0.2, **DATA, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"logits": DATA["logits"][:, :3]},
        {"logits": torch.full((20, 4), torch.nan)},
        {"features": None},
        {"features": DATA["features"][:19]},
        {"assignment": torch.eye(4, 6, dtype=torch.bool)},
        {"batch": -1},
    ],
)
def test_prediction_refuses(changes):
    calibration = calibrate(labels=LABELS, alpha=0.2, **DATA)
    with pytest.raises(InvalidInputError):
        predict_set(calibration, **{**DATA, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"thresholds": [1.0]},
        {"rules": []},
        {"rules": [{"levels": [0, 0, 0, -1], "thresholds": [1.0] * 4}]},
        {"rules": [{"levels": [0, 0, 0, 4], "thresholds": [1.0] * 4}]},
        {"rules": [{"levels": [0, 0, 0, 1.0], "thresholds": [1.0] * 4}]},
        {"rules": [{"levels": [0] * 4, "thresholds": [1.0, 1.0, 1.0, math.nan]}]},
        {"rules": [{"levels": [0] * 4, "thresholds": [1.0] * 3}]},
        {"rules": [{"levels": [], "thresholds": []}]},
        {"rules": [{"levels": [0] * 4, "thresholds": "1234"}]},
        {"rules": [{"levels": [0] * 4, "thresholds": [True] * 4}]},
        {"rules": [{"levels": [0] * 4, "thresholds": [1.0] * 4, "more": 1}]},
        {"method": "lac"},
        {"method": "lac", "rules": [], "thresholds": "1"},
        {"method": "lac", "rules": [], "thresholds": [False]},
        {"class_conditional": True},
        {"class_conditional": None},
        {"n_classes": "4"},
        {"n_calibration": -5},
        {"n_calibration": 0},
        {"parameters": []},
        {"seed": 1.5, "method": "aps", "rules": [], "thresholds": [1.0]},
        {"alpha": 2.0},
        {"unknown": 1},
    ],
)
def test_records_that_are_refused(changes):
    record = calibrate(labels=LABELS, alpha=0.2, **DATA).to_dict()
    with pytest.raises(InvalidInputError):
        Calibration.from_dict({**record, **changes})
    del record["alpha"]
    with pytest.raises(InvalidInputError, match="alpha"):
        Calibration.from_dict(record)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"format": "qpm-calibration/2"}',
        '{"format": 1}',
        "1" * 10_000,
    ],
)
def test_damaged_files_are_refused(text, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"calibration\.json"):
        load_calibration(path, "")


def test_huge_numbers_in_files_are_refused(tmp_path):
    path = tmp_path / "calibration.json"
    save_calibration(path, calibrate(labels=LABELS, alpha=0.2, **DATA), "")
    assert load_calibration(path, "") == calibrate(labels=LABELS, alpha=0.2, **DATA)
    record = json.loads(path.read_text())
    record["calibration"]["rules"][0]["thresholds"][0] = 10**400
    path.write_text(json.dumps(record))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_calibration(path, "")


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan])
def test_shares_of_the_level_are_parts(share):
    with pytest.raises(InvalidInputError, match="level_share"):
        hierarchical_threshold(torch.zeros(3, dtype=torch.int), torch.zeros(3, 2), 0.5, share)
