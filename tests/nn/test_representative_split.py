"""A network as feature maps and scores of them; networks whose boundaries are no hyperplanes."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18, vgg11

from qpm_nn.backbones.vgg import VGG
from qpm_nn.explanations.representative import Linearity, linearity, split_network
from qpm_nn.heads import AssignmentHead, Classifier, DenseHead
from qpm_opt import InvalidInputError

N_CLASSES = 3


def images(n=4, channels=1, side=8, seed=0):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def mlp(n_in, *middle):
    """Fully connected layers with a ReLU, or other modules, between them."""
    return [nn.Flatten(), nn.Linear(n_in, 6), *(middle or [nn.ReLU()]), nn.Linear(6, N_CLASSES)]


def convolutions():
    """Images of one channel and 8 pixels to 3 maps of 4 pixels: modules 0 to 4."""
    return [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.ReLU(),
    ]


def pooled_linear():
    """Global pooling and a linear layer: an affine head."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, N_CLASSES)]


def plain(*middle, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*convolutions(), *mlp(48, *middle))


def with_statistics(model, seed=0):
    """Batch normalisation that does something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    return model


def assert_composes(split, model, inputs, tolerance=1e-5):
    """G(psi(x)) is F(x), by calling the two parts, and the network in evaluation mode."""
    was_training = model.training
    with torch.no_grad():
        expected = model.eval()(inputs)
        maps = split.image_part(inputs)
        found = split.score_part(maps.double())
    model.train(was_training)
    assert maps.ndim == 4
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.double(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(split.scores(split.maps(inputs)), found, rtol=0, atol=0)
    # The expected scores must depend on the image, or nothing is tested.
    assert (expected.std(0) > 0).any()


def test_plain_network_is_split_behind_the_relu_of_its_last_convolution():
    model = plain()
    split = split_network(model, images())
    assert split.layer == "4"
    assert split.linearity is Linearity.PIECEWISE_LINEAR
    assert not split.is_affine and not split.notice
    assert_composes(split, model, images(5, seed=1))
    assert torch.equal(split.maps(images()), model[:5](images()))


def test_batch_normalisation_and_relu_in_place_belong_to_the_convolution():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(2), *mlp(27)
    )
    with_statistics(model)
    split = split_network(model, images())
    assert split.layer == "2"
    assert_composes(split, model, images(seed=2))


def test_scores_leave_the_maps_as_they_are():
    """A layer behind the split that works in place must not change what it is given."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), *mlp(108))
    split = split_network(model, images(), layer="0")
    maps = split.maps(images()).double()
    before = maps.clone()
    split.scores(maps)
    assert (before < 0).any()
    assert torch.equal(maps, before)


def classifier(head):
    torch.manual_seed(3)
    return with_statistics(Classifier(VGG(1, [4, 6]), head))


def assignment_head(**options):
    return AssignmentHead(
        [0, 2, 3, 5],
        [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]],
        # Below the means of random maps, so that rectified features are not all 0.
        [0.01, 0.02, 0.03, 0.01],
        [0.5, 0.4, 0.3, 0.6],
        **options,
    )


def test_classifier_with_a_rectifying_head_is_split_at_its_last_convolution():
    model = classifier(assignment_head(relu=True))
    split = split_network(model, images(8))
    assert split.linearity is Linearity.PIECEWISE_LINEAR
    assert not split.notice
    assert split.maps(images()).shape == (4, 6, 4, 4)
    assert_composes(split, model, images(5, seed=1))


@pytest.mark.parametrize("head", ["dense", "assignment"])
def test_classifier_with_an_affine_head_is_split_earlier_and_says_so(head):
    heads = {"dense": DenseHead(6, N_CLASSES), "assignment": assignment_head()}
    model = classifier(heads[head])
    split = split_network(model, images())
    assert split.linearity is Linearity.PIECEWISE_LINEAR
    last = [name for name, m in model.named_modules() if isinstance(m, nn.ReLU)][-1]
    assert split.layer != last
    assert f"it is split at {split.layer} instead" in split.notice
    assert last in split.notice
    assert_composes(split, model, images(5, seed=1))


def test_vgg11():
    torch.manual_seed(0)
    model = vgg11(weights=None, init_weights=False)
    # As published but for widths: the true fully connected layers take a gigabyte.
    model.classifier = nn.Sequential(
        nn.Linear(512 * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, N_CLASSES)
    )
    # Variance is kept from layer to layer; the plain initialisation shrinks it to nothing.
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    inputs = images(3, 3, 32)
    split = split_network(model, inputs)
    assert split.layer == "features.19"
    assert split.maps(inputs).shape == (3, 512, 2, 2)
    assert split.linearity is Linearity.PIECEWISE_LINEAR
    assert_composes(split, model, inputs, 1e-4)


def test_resnet18_is_split_before_its_last_block():
    torch.manual_seed(0)
    model = with_statistics(resnet18(weights=None, num_classes=N_CLASSES))
    inputs = images(2, 3, 64)
    split = split_network(model, inputs)
    assert split.notice
    assert split.maps(inputs).shape == (2, 512, 2, 2)
    assert split.linearity is Linearity.PIECEWISE_LINEAR
    assert_composes(split, model, inputs, 1e-4)
    with torch.no_grad():
        x = model.eval().maxpool(model.relu(model.bn1(model.conv1(inputs))))
        x = model.layer4[0](model.layer3(model.layer2(model.layer1(x))))
    torch.testing.assert_close(split.maps(inputs), x)


def test_named_block_of_resnet18():
    torch.manual_seed(0)
    model = resnet18(weights=None, num_classes=N_CLASSES)
    split = split_network(model, images(2, 3, 32), layer="layer3")
    assert split.layer == "layer3"
    assert split.maps(images(2, 3, 32)).shape == (2, 256, 2, 2)
    assert_composes(split, model, images(2, 3, 32), 1e-4)


def test_pair_of_modules():
    model = plain()
    pair = (nn.Sequential(*model[:3]), nn.Sequential(*model[3:]))
    split = split_network(pair, images())
    assert split.linearity is Linearity.PIECEWISE_LINEAR
    assert split.maps(images()).shape == (4, 4, 4, 4)
    assert_composes(split, model, images(seed=1))


class Branching(nn.Module):
    """Its code asks for values, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Sequential(*convolutions()), nn.Sequential(*mlp(48))

    def forward(self, x):
        return self.second(self.first(x if x.sum() > 0 else -x))


def test_untraceable_network_is_refused_and_its_parts_are_taken():
    torch.manual_seed(0)
    model = Branching()
    with pytest.raises(InvalidInputError, match=r"Branching cannot be taken apart.*pair of modul"):
        split_network(model, images())
    split = split_network((model.first, model.second), images())
    assert_composes(split, model, images(seed=1))


class WithShortcut(nn.Module):
    """What the last layers get includes the image itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Sequential(*mlp(256))

    def forward(self, x):
        return self.fc(torch.cat([self.relu(self.conv(x)), x], 1))


def test_layer_with_a_shortcut_past_it_is_refused():
    with pytest.raises(InvalidInputError, match="depend on the image past relu"):
        split_network(WithShortcut(), images(), layer="relu")


def test_default_split_takes_the_shortcut_with_it():
    torch.manual_seed(0)
    model = WithShortcut()
    split = split_network(model, images())
    assert split.maps(images()).shape == (4, 4, 8, 8)
    assert_composes(split, model, images(seed=1))


def test_layer_that_is_used_twice_is_refused():
    torch.manual_seed(0)
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(1, 3, 3), relu, nn.Conv2d(3, 3, 3), relu, *mlp(48))
    with pytest.raises(InvalidInputError, match="used 2 times"):
        split_network(model, images(), layer="1")
    # By default the second use is found, and named by the step of the trace.
    assert_composes(split_network(model, images()), model, images(seed=1))


def test_affine_everywhere_is_refused():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(2), *pooled_linear())
    with pytest.raises(InvalidInputError, match="affine behind each of its convolutions"):
        split_network(model, images())


def test_named_layer_with_an_affine_rest_is_taken_with_a_warning(caplog):
    torch.manual_seed(0)
    model = nn.Sequential(*convolutions(), *pooled_linear())
    with caplog.at_level(logging.WARNING):
        split = split_network(model, images(), layer="4")
    assert split.is_affine
    assert "Behind 4 the network is affine" in split.notice
    assert split.notice in caplog.text
    assert_composes(split, model, images(seed=1))


def test_by_default_the_same_network_is_split_at_the_convolution_before():
    torch.manual_seed(0)
    model = nn.Sequential(*convolutions(), *pooled_linear())
    split = split_network(model, images())
    assert split.layer == "1"
    assert "Behind 4" in split.notice


@pytest.mark.parametrize(
    ("layer", "expected"), [("nothing", "no layer 'nothing'.*0, 3"), ("", "no layer ''")]
)
def test_unknown_layer(layer, expected):
    with pytest.raises(InvalidInputError, match=expected):
        split_network(plain(), images(), layer=layer)


def test_layer_without_maps():
    with pytest.raises(InvalidInputError, match=r"output of 6 has shape \(4, 6\).*layer with maps"):
        split_network(plain(), images(), layer="6")


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Attention(nn.Module):
    """Softmax attention among the pixels of a map."""

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return functional.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens


CURVES = {
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "LayerNorm": nn.LayerNorm(6),
    "Softmax": nn.Softmax(1),
    "tanh": Functional(torch.tanh),
    "sigmoid": Functional(lambda x: x.sigmoid()),
    "gelu": Functional(functional.gelu),
    # No name gives these away: only numbers do.
    "square": Functional(lambda x: x * x),
    "own gate": Functional(lambda x: x / (1 + x.abs())),
}


@pytest.mark.parametrize("name", CURVES)
def test_curved_networks_are_refused(name):
    with pytest.raises(InvalidInputError, match="not piecewise linear") as caught:
        split_network(plain(CURVES[name]), images())
    if name in ("GELU", "SiLU", "LayerNorm", "Softmax", "tanh", "sigmoid", "gelu"):
        assert f"(it has {name})" in str(caught.value)


def test_attention_behind_the_convolution_is_refused():
    torch.manual_seed(0)
    model = nn.Sequential(*convolutions(), Attention(), *mlp(48))
    with pytest.raises(InvalidInputError, match=r"not piecewise linear \(it has softmax\)"):
        split_network(model, images())


def test_curve_before_the_split_is_welcome():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Conv2d(2, 3, 3), nn.ReLU(), *mlp(48))
    split = split_network(model, images())
    assert split.layer == "3"
    assert_composes(split, model, images(seed=1))


def test_curve_in_a_given_pair_is_refused():
    model = plain(nn.GELU())
    with pytest.raises(InvalidInputError, match=r"first module.*it has GELU"):
        split_network((nn.Sequential(*model[:5]), nn.Sequential(*model[5:])), images())


def test_evaluation_mode_is_taken_and_the_model_stays_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.9), *mlp(108)
    )
    with_statistics(model).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = images(seed=5)
    split = split_network(model, inputs)
    assert torch.equal(split.scores(split.maps(inputs)), split.scores(split.maps(inputs)))
    assert_composes(split, model, inputs)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items())
    # And later training does not change the split.
    before = split.scores(split.maps(inputs))
    model[0].weight.data.zero_()
    assert torch.equal(split.scores(split.maps(inputs)), before)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (1, 8, 8), (8,)])
def test_inputs_of_a_wrong_shape(shape):
    with pytest.raises(InvalidInputError, match="inputs has shape"):
        split_network(plain(), torch.zeros(shape))


def test_inputs_of_other_channels():
    with pytest.raises(InvalidInputError, match=r"inputs.*\(4, 3, 8, 8\)"):
        split_network(plain(), images(channels=3))


def test_nan_is_refused():
    with pytest.raises(InvalidInputError, match="NaN"):
        split_network(plain(), torch.full((2, 1, 8, 8), float("nan")))


def test_network_without_convolutions():
    model = nn.Sequential(*mlp(64))
    with pytest.raises(InvalidInputError, match="no convolution"):
        split_network(model, images())


@pytest.mark.parametrize("shape", [(1,), ()])
def test_network_with_one_score(shape):
    model = nn.Sequential(*convolutions(), nn.Flatten(), nn.Linear(48, 1), nn.Flatten(0))
    if shape:
        model = model[:-1]
    with pytest.raises(InvalidInputError, match="two classes or more"):
        split_network(model, images())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda t: t.flatten(1)[:, :3] * 2 + 1, Linearity.AFFINE),
        (lambda t: t.mean((2, 3)) @ t.new_tensor([[1.0, -2, 3], [0, 1, 5]]), Linearity.AFFINE),
        (lambda t: t.flatten(1)[:, :3].relu(), Linearity.PIECEWISE_LINEAR),
        (lambda t: functional.max_pool2d(t, 2).sum((2, 3)), Linearity.PIECEWISE_LINEAR),
        (lambda t: functional.leaky_relu(t, 0.9).sum((2, 3)), Linearity.PIECEWISE_LINEAR),
        (lambda t: t.flatten(1)[:, :3].abs(), Linearity.PIECEWISE_LINEAR),
        (lambda t: (t.square() + t).sum((2, 3)), Linearity.CURVED),
        (lambda t: (t + 1e-3 * t.square()).sum((2, 3)), Linearity.CURVED),
        (lambda t: t.relu().square().sum((2, 3)), Linearity.CURVED),
        (lambda t: t.sum((2, 3)) / t.abs().sum((2, 3)), Linearity.CURVED),
    ],
)
def test_linearity_by_numbers_alone(function, expected):
    maps = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    assert linearity(Functional(function), maps) is expected
    assert linearity(Functional(function), 1e3 * maps[:1]) is expected


def test_units_that_switch_far_from_the_images_only():
    """The network behind is not affine, though it is where the images are."""
    maps = torch.rand(5, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    function = Functional(lambda t: (t - 50).relu().sum((2, 3)) + t.sum((2, 3)))
    assert linearity(function, maps) is Linearity.PIECEWISE_LINEAR


def test_linearity_of_a_constant():
    maps = torch.randn(3, 2, 4, 4)
    constant = Functional(lambda t: (0 * t).sum((2, 3)) + 1)
    assert linearity(constant, maps) is Linearity.AFFINE


def test_linearity_of_maps_that_are_all_zero():
    """Dead units: no scale to take steps by."""
    zeros = torch.zeros(2, 2, 4, 4)
    curve = Functional(lambda t: (t + t.square()).sum((2, 3)))
    assert linearity(curve, zeros) is Linearity.CURVED
    assert linearity(Functional(lambda t: t.relu().sum((2, 3))), zeros) is (
        Linearity.PIECEWISE_LINEAR
    )
