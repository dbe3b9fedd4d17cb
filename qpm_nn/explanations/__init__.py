"""What a person looks at: classes in words and figures."""

from qpm_nn.explanations.assignment import draw_assignment
from qpm_nn.explanations.comparison import closest_pair, draw_comparison, example_image
from qpm_nn.explanations.tree import ClassTree, ClassTrees, TreeNode, class_tree
from qpm_nn.explanations.words import class_features, explain_class, shared_features

__all__ = [
    "ClassTree",
    "ClassTrees",
    "TreeNode",
    "class_features",
    "class_tree",
    "closest_pair",
    "draw_assignment",
    "draw_comparison",
    "example_image",
    "explain_class",
    "shared_features",
]
