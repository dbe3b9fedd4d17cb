"""What a person looks at: classes in words and figures."""

from qpm_nn.explanations.assignment import draw_assignment
from qpm_nn.explanations.colours import feature_colours
from qpm_nn.explanations.comparison import Example, closest_pair, draw_comparison, example_image
from qpm_nn.explanations.counterfactuals import (
    Counterfactual,
    FeatureChange,
    counterfactual,
    observed_limits,
)
from qpm_nn.explanations.counterfactuals_figure import draw_counterfactual
from qpm_nn.explanations.heat import (
    ExplainedImage,
    active_means,
    certainty,
    draw_heat_maps,
    explained_image,
    heat_map,
)
from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.reasons import (
    Contributions,
    Term,
    WhyNot,
    contributions,
    draw_contributions,
    draw_why_not,
    why_not,
)
from qpm_nn.explanations.svg import as_svg
from qpm_nn.explanations.trace import SolverTrace, draw_solver_trace, solver_trace
from qpm_nn.explanations.tree import ClassTree, ClassTrees, TreeNode, class_tree
from qpm_nn.explanations.tree_figure import draw_tree
from qpm_nn.explanations.words import class_features, explain_class, shared_features

__all__ = [
    "ClassTree",
    "ClassTrees",
    "Contributions",
    "Counterfactual",
    "Example",
    "ExplainedImage",
    "FeatureChange",
    "LastLayer",
    "SolverTrace",
    "Term",
    "TreeNode",
    "WhyNot",
    "active_means",
    "as_svg",
    "certainty",
    "class_features",
    "class_tree",
    "closest_pair",
    "contributions",
    "counterfactual",
    "draw_assignment",
    "draw_comparison",
    "draw_contributions",
    "draw_counterfactual",
    "draw_heat_maps",
    "draw_solver_trace",
    "draw_tree",
    "draw_why_not",
    "example_image",
    "explain_class",
    "explained_image",
    "feature_colours",
    "heat_map",
    "observed_limits",
    "shared_features",
    "solver_trace",
    "why_not",
]
