"""What a person looks at: classes in words and figures."""

from qpm_nn.explanations.assignment import draw_assignment
from qpm_nn.explanations.comparison import closest_pair, draw_comparison, example_image
from qpm_nn.explanations.words import class_features, explain_class, shared_features

__all__ = [
    "class_features",
    "closest_pair",
    "draw_assignment",
    "draw_comparison",
    "example_image",
    "explain_class",
    "shared_features",
]
