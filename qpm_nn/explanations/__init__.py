"""What a person looks at: classes in words and figures."""

from qpm_nn.explanations.assignment import AssignmentMatrix, assignment_matrix, draw_assignment
from qpm_nn.explanations.colours import feature_colours
from qpm_nn.explanations.comparison import (
    ComparedClass,
    ComparedClasses,
    ComparedFeature,
    closest_pair,
    compare_classes,
)
from qpm_nn.explanations.comparison_figure import draw_comparison
from qpm_nn.explanations.counterfactuals import (
    Counterfactual,
    FeatureChange,
    counterfactual,
    observed_limits,
)
from qpm_nn.explanations.counterfactuals_figure import draw_counterfactual
from qpm_nn.explanations.examples import (
    Example,
    choose_example,
    example_image,
    example_images,
    predicted_examples,
)
from qpm_nn.explanations.grounding import (
    GroundingScatter,
    PairSimilarity,
    draw_grounding,
    grounding_scatter,
)
from qpm_nn.explanations.heat import (
    ExplainedImage,
    active_means,
    certainty,
    draw_heat_maps,
    explained_image,
    heat_map,
)
from qpm_nn.explanations.insertion import FeatureCurves, insertion_deletion
from qpm_nn.explanations.last_layer import LastLayer
from qpm_nn.explanations.mistakes import Confusion, Confusions, ConfusionTerm, confusions
from qpm_nn.explanations.mistakes_figure import draw_confusions
from qpm_nn.explanations.neighbours import ClassEdge, ClassGraph, ClassNode, class_graph
from qpm_nn.explanations.neighbours_figure import draw_class_graph
from qpm_nn.explanations.profiles import (
    AlignedAttribute,
    FeatureProfile,
    Mode,
    NearFeature,
    ProfileClass,
    TopImage,
    feature_profiles,
)
from qpm_nn.explanations.profiles_figure import draw_feature_histogram
from qpm_nn.explanations.reasons import (
    Contributions,
    Term,
    WhyNot,
    contributions,
    draw_contributions,
    draw_why_not,
    why_not,
)
from qpm_nn.explanations.saliency import feature_saliency
from qpm_nn.explanations.saliency_figure import draw_saliency
from qpm_nn.explanations.svg import as_svg
from qpm_nn.explanations.trace import SolverTrace, draw_solver_trace, solver_trace
from qpm_nn.explanations.tree import ClassTree, ClassTrees, TreeNode, class_tree
from qpm_nn.explanations.tree_figure import draw_tree
from qpm_nn.explanations.words import class_features, explain_class, shared_features

__all__ = [
    "AlignedAttribute",
    "AssignmentMatrix",
    "ClassEdge",
    "ClassGraph",
    "ClassNode",
    "ClassTree",
    "ClassTrees",
    "ComparedClass",
    "ComparedClasses",
    "ComparedFeature",
    "Confusion",
    "ConfusionTerm",
    "Confusions",
    "Contributions",
    "Counterfactual",
    "Example",
    "ExplainedImage",
    "FeatureChange",
    "FeatureCurves",
    "FeatureProfile",
    "GroundingScatter",
    "LastLayer",
    "Mode",
    "NearFeature",
    "PairSimilarity",
    "ProfileClass",
    "SolverTrace",
    "Term",
    "TopImage",
    "TreeNode",
    "WhyNot",
    "active_means",
    "as_svg",
    "assignment_matrix",
    "certainty",
    "choose_example",
    "class_features",
    "class_graph",
    "class_tree",
    "closest_pair",
    "compare_classes",
    "confusions",
    "contributions",
    "counterfactual",
    "draw_assignment",
    "draw_class_graph",
    "draw_comparison",
    "draw_confusions",
    "draw_contributions",
    "draw_counterfactual",
    "draw_feature_histogram",
    "draw_grounding",
    "draw_heat_maps",
    "draw_saliency",
    "draw_solver_trace",
    "draw_tree",
    "draw_why_not",
    "example_image",
    "example_images",
    "explain_class",
    "explained_image",
    "feature_colours",
    "feature_profiles",
    "feature_saliency",
    "grounding_scatter",
    "heat_map",
    "insertion_deletion",
    "observed_limits",
    "predicted_examples",
    "shared_features",
    "solver_trace",
    "why_not",
]
