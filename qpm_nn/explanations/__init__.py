"""What a person looks at: classes in words and figures."""

from qpm_nn.explanations.assignment import draw_assignment
from qpm_nn.explanations.colours import feature_colours
from qpm_nn.explanations.comparison import Example, closest_pair, draw_comparison, example_image
from qpm_nn.explanations.heat import (
    ExplainedImage,
    active_means,
    certainty,
    draw_heat_maps,
    explained_image,
    heat_map,
)
from qpm_nn.explanations.insertion import FeatureCurves, insertion_deletion
from qpm_nn.explanations.saliency import feature_saliency
from qpm_nn.explanations.saliency_figure import draw_saliency
from qpm_nn.explanations.svg import as_svg
from qpm_nn.explanations.tree import ClassTree, ClassTrees, TreeNode, class_tree
from qpm_nn.explanations.tree_figure import draw_tree
from qpm_nn.explanations.words import class_features, explain_class, shared_features

__all__ = [
    "ClassTree",
    "ClassTrees",
    "Example",
    "ExplainedImage",
    "FeatureCurves",
    "TreeNode",
    "active_means",
    "as_svg",
    "certainty",
    "class_features",
    "class_tree",
    "closest_pair",
    "draw_assignment",
    "draw_comparison",
    "draw_heat_maps",
    "draw_saliency",
    "draw_tree",
    "example_image",
    "explain_class",
    "explained_image",
    "feature_colours",
    "feature_saliency",
    "heat_map",
    "insertion_deletion",
    "shared_features",
]
