"""Representative interpretations: what an image shares with many others of its class.

References
----------
Lam, Chu, Torgonskiy, Pei, Zhang, Wang, Finding representative interpretations on convolutional
neural networks, ICCV 2021.
"""

from qpm_nn.explanations.representative.boundaries import (
    SAMPLINGS,
    Boundaries,
    SegmentReport,
    boundaries_at,
    sample_at_references,
    sample_on_segments,
)
from qpm_nn.explanations.representative.bridge import (
    Rival,
    RivalsToRuleOut,
    SharedPattern,
    rivals_to_rule_out,
    shared_pattern,
)
from qpm_nn.explanations.representative.cams import (
    CAMS,
    grad_cam_plus_plus_weights,
    grad_cam_weights,
    score_cam_weights,
)
from qpm_nn.explanations.representative.channels import channel_map
from qpm_nn.explanations.representative.evaluation import (
    Agreement,
    HeatMapScores,
    agreement,
    average_drop,
    average_increase,
    most_important,
    reused_heat_maps,
    score_heat_maps,
    served_heat_maps,
)
from qpm_nn.explanations.representative.figure import (
    CaseStudy,
    ShownImage,
    case_study,
    draw_case_study,
)
from qpm_nn.explanations.representative.images import MappedImages
from qpm_nn.explanations.representative.inputs import CentralImages, Served, central_images, serve
from qpm_nn.explanations.representative.interpretation import (
    Interpretation,
    cover_problem,
    interpret,
)
from qpm_nn.explanations.representative.linearity import Linearity, linearity
from qpm_nn.explanations.representative.split import NetworkSplit, split_network

__all__ = [
    "CAMS",
    "SAMPLINGS",
    "Agreement",
    "Boundaries",
    "CaseStudy",
    "CentralImages",
    "HeatMapScores",
    "Interpretation",
    "Linearity",
    "MappedImages",
    "NetworkSplit",
    "Rival",
    "RivalsToRuleOut",
    "SegmentReport",
    "Served",
    "SharedPattern",
    "ShownImage",
    "agreement",
    "average_drop",
    "average_increase",
    "boundaries_at",
    "case_study",
    "central_images",
    "channel_map",
    "cover_problem",
    "draw_case_study",
    "grad_cam_plus_plus_weights",
    "grad_cam_weights",
    "interpret",
    "linearity",
    "most_important",
    "reused_heat_maps",
    "rivals_to_rule_out",
    "sample_at_references",
    "sample_on_segments",
    "score_cam_weights",
    "score_heat_maps",
    "serve",
    "served_heat_maps",
    "shared_pattern",
    "split_network",
]
