"""A network as feature maps, and scores of feature maps: F(x) = G(psi(x)).

References
----------
Lam, Chu, Torgonskiy, Pei, Zhang, Wang, Finding representative interpretations on convolutional
neural networks, ICCV 2021, section 3.1; the article explains what it calls psi, Omega and G.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from qpm_nn.explanations.representative.linearity import (
    Linearity,
    curved_operations,
    linearity,
    module_names,
)
from qpm_nn.heads import AssignmentHead, DenseHead, SparseHead
from qpm_opt import InvalidInputError

logger = logging.getLogger(__name__)

#: What belongs to the layer before it, by name.
_ACTIVATIONS = frozenset(
    "BatchNorm2d Dropout Dropout2d Hardtanh Identity LeakyReLU PReLU ReLU ReLU6 RReLU dropout "
    "hardtanh leaky_relu relu relu6 relu_".split()
)
_CONVOLUTIONS = frozenset(["Conv2d", "conv2d"])
_HEADS = (DenseHead, AssignmentHead, SparseHead)
AFFINE_NOTICE = (
    "Behind {layer} the network is affine, so its boundaries are those between pairs of classes, "
    "and the region of an image is all of its class; split the network at an earlier layer for "
    "anything finer."
)
EARLIER_NOTICE = (
    "Behind {last} the network is affine, and only pairs of classes would remain; it is split at "
    "{layer} instead."
)


@dataclass(frozen=True)
class NetworkSplit:
    """Two parts of a network, in evaluation mode, copied from it.

    Attributes
    ----------
    layer : str
        Whose output the feature maps are.
    linearity : Linearity
        Of the second part.
    notice : str
        One sentence if there is something to know about the place of the split, else empty.
    image_part : Module
        Network inputs (n_images, channels, H, W) to feature maps (n_images, n_channels, h, w).
    score_part : Module
        Feature maps to scores before a softmax, (n_images, n_classes), in float64.
    """

    layer: str
    linearity: Linearity
    notice: str
    image_part: nn.Module
    score_part: nn.Module

    @torch.no_grad()
    def maps(self, inputs: Tensor) -> Tensor:
        """Feature maps psi(x), of shape (n_images, n_channels, h, w), of network inputs."""
        return self.image_part(inputs)

    def scores(self, maps: Tensor) -> Tensor:
        """Scores G(t), (n_images, n_classes), float64, of feature maps of any precision."""
        # A copy, for the first layer may work in place.
        return self.score_part(maps.double().clone())

    @property
    def is_affine(self) -> bool:
        """Whether only the boundaries between pairs of classes remain."""
        return self.linearity is Linearity.AFFINE


def split_network(
    model: nn.Module | tuple[nn.Module, nn.Module], inputs: Tensor, layer: str | None = None
) -> NetworkSplit:
    """Split a network into feature maps, and scores of them.

    By default it is split at its last convolution, the normalisation and the ReLU behind that
    included. If the rest is affine, as in residual networks and in all classifiers of this package
    but those of CHiQPM, the split goes back, convolution by convolution, until it is not.

    Parameters
    ----------
    model : Module or pair of Modules
        Normalised images to scores before a softmax; or its two parts.
    inputs : Tensor of shape (n_images, channels, H, W)
        Some network inputs, a handful, to find shapes and to test that the split is right.
    layer : str, optional
        Name of a module, as ``named_modules`` has it, whose output to take. It is taken even if the
        rest is affine, with a warning.

    Raises
    ------
    InvalidInputError
        If there is no such layer, the scores depend on the image past the layer, the rest is not
        piecewise linear or is affine wherever the network is split, or the network cannot be read.
    """
    if inputs.ndim != 4 or not len(inputs):
        raise InvalidInputError(
            f"inputs has shape {tuple(inputs.shape)}; (n_images, channels, height, width) with at "
            "least one image was expected."
        )
    if isinstance(model, tuple):
        first, second = (_frozen_copy(part) for part in model)
        return _checked(first, second, inputs, "the first module", module_names(second))
    model = _frozen_copy(model)
    graph = _trace(model, layer)
    expected = _run(model, inputs)
    if layer is not None:
        return _at_layer(graph, inputs, expected, layer)
    cuts = list(_convolution_cuts(graph, inputs))
    if not cuts:
        raise InvalidInputError(
            f"{type(model).__name__} has no convolution through whose maps all goes; name a layer, "
            "or give the two parts of the network."
        )
    last = _name(cuts[0])
    for cut in cuts:
        split = _at_node(graph, cut, inputs, expected)
        if not split.is_affine:
            notice = EARLIER_NOTICE.format(last=last, layer=split.layer) if cut != cuts[0] else ""
            return _with_notice(split, notice)
    raise InvalidInputError(
        "The network is affine behind each of its convolutions, so that only pairs of classes "
        "remain: the region of an image is all of its class. Name a layer to have those."
    )


def _frozen_copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval().requires_grad_(False)


def _run(module: nn.Module, inputs: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            return module(inputs)
    except RuntimeError as failure:  # of torch, whose message tells the shapes
        raise InvalidInputError(
            f"The network does not take inputs of shape {tuple(inputs.shape)} and type "
            f"{inputs.dtype}: {str(failure).splitlines()[0].rstrip('.')}."
        ) from None


class _Tracer(fx.Tracer):
    def __init__(self, layer: str | None) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Heads ask for the number of dimensions, which a trace does not know.
        return (
            isinstance(m, _HEADS)
            or module_qualified_name == self.layer
            or super().is_leaf_module(m, module_qualified_name)
        )


def _trace(model: nn.Module, layer: str | None) -> fx.GraphModule:
    if layer is not None and (not layer or layer not in dict(model.named_modules())):
        convolutions = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
        raise InvalidInputError(
            f"The network has no layer {layer!r}; its convolutions are "
            f"{', '.join(convolutions) or 'none'}."
        )
    try:
        graph = _Tracer(layer).trace(model)
    except Exception as failure:  # whatever the code of a network raises when it meets a proxy
        reason = (
            str(failure).splitlines()[0].rstrip(".") if str(failure) else type(failure).__name__
        )
        raise InvalidInputError(
            f"{type(model).__name__} cannot be taken apart ({reason}); give its two parts, feature "
            "maps and scores, as a pair of modules."
        ) from None
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code()
    return module


def _operation(module: fx.GraphModule, node: fx.Node) -> str:
    """Name of what a node does: the class of a module, or a function or method."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    return getattr(node.target, "__name__", str(node.target))


def _name(node: fx.Node) -> str:
    """The name of a module that is called once, or that of a step of the trace."""
    same = [n for n in node.graph.nodes if n.op == "call_module" and n.target == node.target]
    return str(node.target) if len(same) == 1 else node.name


def _image_nodes(module: fx.GraphModule) -> dict[fx.Node, None]:
    """Nodes that depend on the images, in their order."""
    found: dict[fx.Node, None] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder" or any(source in found for source in node.all_input_nodes):
            found[node] = None
    return found


def _cuts(module: fx.GraphModule) -> list[fx.Node]:
    """Nodes through which everything goes that the scores know of the image, in their order."""
    nodes = list(_image_nodes(module))
    position = {node: i for i, node in enumerate(nodes)}
    cuts, open_until = [], 0
    for i, node in enumerate(nodes):
        if node.op == "output":
            break
        if open_until <= i and node.op != "placeholder":
            cuts.append(node)
        open_until = max(open_until, *(position[user] for user in node.users if user in position))
    return cuts


def _convolution_cuts(module: fx.GraphModule, inputs: Tensor) -> Iterator[fx.Node]:
    """Where the output of each convolution can be cut, activation included, the last one first."""
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    cuts = _cuts(module)
    shapes = _ShapeRecorder(module)
    with torch.no_grad():
        shapes.run(inputs)
    seen = set()
    for node in reversed(list(module.graph.nodes)):
        if _operation(module, node) not in _CONVOLUTIONS:
            continue
        later = [cut for cut in cuts if order[cut] >= order[node]]
        if not later:
            continue
        cut, *rest = later
        for follower in rest:
            is_next = list(cut.users) == [follower]
            if not is_next or _operation(module, follower) not in _ACTIVATIONS:
                break
            cut = follower
        if cut not in seen and shapes.n_dimensions.get(cut) == 4:
            seen.add(cut)
            yield cut


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.n_dimensions: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.n_dimensions[n] = result.ndim
        return result


def _at_layer(graph: fx.GraphModule, inputs: Tensor, expected: Tensor, layer: str) -> NetworkSplit:
    nodes = [n for n in graph.graph.nodes if n.op == "call_module" and n.target == layer]
    if len(nodes) != 1 or nodes[0] not in _cuts(graph):
        raise InvalidInputError(
            f"The scores depend on the image past {layer} (a shortcut, or a layer that is used "
            f"{len(nodes)} times); name a layer through whose output everything goes."
        )
    split = _at_node(graph, nodes[0], inputs, expected)
    if split.is_affine:
        split = _with_notice(split, AFFINE_NOTICE.format(layer=layer))
        logger.warning(split.notice)
    return split


def _at_node(
    module: fx.GraphModule, cut: fx.Node, inputs: Tensor, expected: Tensor
) -> NetworkSplit:
    first, second = fx.Graph(), fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        copied[node] = first.node_copy(node, copied.__getitem__)
        if node is cut:
            break
    first.output(copied[cut])
    copied = {cut: second.placeholder("maps")}
    after = list(module.graph.nodes)[list(module.graph.nodes).index(cut) + 1 :]
    operations = []
    of_images = _image_nodes(module)
    for node in module.graph.nodes:
        if node.op != "placeholder" and (node in after or node not in of_images):
            copied[node] = second.node_copy(node, copied.__getitem__)
            operations.append(_operation(module, node))
    parts = [fx.GraphModule(module, graph) for graph in (first, second)]
    for part in parts:
        part.graph.eliminate_dead_code()
        part.recompile()
    return _checked(*parts, inputs, _name(cut), operations, expected)


def _checked(
    image_part: nn.Module,
    score_part: nn.Module,
    inputs: Tensor,
    layer: str,
    operations: Iterator[str] | Sequence[str],
    expected: Tensor | None = None,
) -> NetworkSplit:
    """The split, if its second part is piecewise linear and both together are the network."""
    curved = curved_operations(operations)
    found = Linearity.CURVED
    # Parameters are shared with the first part, which keeps its precision.
    score_part = copy.deepcopy(score_part).double()
    maps = _run(image_part, inputs)
    if maps.ndim != 4:
        raise InvalidInputError(
            f"The output of {layer} has shape {tuple(maps.shape)}; feature maps (n_images, "
            "n_channels, height, width) were expected: name a layer with maps."
        )
    if not curved:
        found = linearity(score_part, maps)
    if found is Linearity.CURVED:
        reason = f" (it has {', '.join(curved)})" if curved else ""
        raise InvalidInputError(
            f"Behind {layer} the network is not piecewise linear{reason}, so that its boundaries "
            "are no hyperplanes; representative interpretations serve networks of ReLUs, "
            "max-pooling and linear layers, to their scores before the softmax."
        )
    split = NetworkSplit(layer, found, "", image_part, score_part)
    if expected is not None:
        with torch.no_grad():
            scores = split.scores(maps)
        size = float(expected.abs().max())
        if not torch.allclose(scores, expected.double(), rtol=1e-3, atol=1e-4 * size):
            raise InvalidInputError(
                f"The parts of the network before and behind {layer} do not give its scores "
                "together; give the two parts as a pair of modules."
            )
    return split


def _with_notice(split: NetworkSplit, notice: str) -> NetworkSplit:
    return NetworkSplit(split.layer, split.linearity, notice, split.image_part, split.score_part)
