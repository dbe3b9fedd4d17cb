"""Sparse final layers on fixed features: SLDD-Model, Q-SENN and the baseline glm-saga; no torch."""

from qpm_nn.sparse.elastic_net import (
    ElasticNet,
    ElasticNetFit,
    elastic_net_path,
    lambda_sequence,
    standardise,
)
from qpm_nn.sparse.layers import (
    EXCESS,
    SparseLayer,
    TernaryLayer,
    balanced_bias,
    densest_within,
    keep_largest,
    qsenn_layer,
    quantise,
    sldd_layer,
)
from qpm_nn.sparse.selection import FeatureSelection, select_by_path, select_forward

__all__ = [
    "EXCESS",
    "ElasticNet",
    "ElasticNetFit",
    "FeatureSelection",
    "SparseLayer",
    "TernaryLayer",
    "balanced_bias",
    "densest_within",
    "elastic_net_path",
    "keep_largest",
    "lambda_sequence",
    "qsenn_layer",
    "quantise",
    "select_by_path",
    "select_forward",
    "sldd_layer",
    "standardise",
]
