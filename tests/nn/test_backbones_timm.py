"""Models of timm as backbones; random weights, no downloads."""

from __future__ import annotations

import pickle
import re
import sys
from urllib.error import URLError

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from qpm_nn.backbones import classification_layer, create_backbone, map_shape
from qpm_nn.cli import run
from qpm_nn.config_layers import read_config
from qpm_nn.saving import load_classifier
from qpm_opt import InvalidInputError


def test_without_timm_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InvalidInputError, match=r"need the package timm; .*'\.\[nn,timm\]'"):
        create_backbone("timm:test_vit", 3)


timm = pytest.importorskip("timm", reason="needs the extra timm")


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("convnext_tiny", (224, 224), (768, 7, 7)),
        ("vit_small_patch14_dinov2", (224, 224), (384, 16, 16)),
        ("vit_small_patch14_reg4_dinov2.lvd142m", (224, 112), (384, 16, 8)),
        ("swin_tiny_patch4_window7_224", (224, 224), (768, 7, 7)),  # channels last
        ("mobilenetv3_small_100", (128, 128), (576, 4, 4)),
    ],
)
def test_shapes_of_maps(name, size, shape):
    assert map_shape(f"timm:{name}", (3, *size)) == shape


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet", "test_mambaout"])
def test_what_is_trained_gets_gradients(name):
    torch.manual_seed(0)
    backbone = create_backbone(f"timm:{name}", 1)
    maps = backbone(torch.randn(2, 1, 64, 64))
    assert maps.shape[1] == backbone.n_features and (maps >= 0).all() and (maps > 0).any()
    maps.sum().backward()
    for parameter in backbone.parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad)


def test_maps_of_a_transformer_are_its_patch_tokens():
    torch.manual_seed(0)
    backbone = create_backbone("timm:test_vit", 3).eval()
    images = torch.rand(2, 3, 48, 32)
    expected_input = (images - 0.5) / 0.5  # what this model was trained with
    imagenet = torch.tensor([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)]).view(2, 3, 1, 1)
    with torch.no_grad():
        tokens = backbone.network.forward_features(expected_input)
        maps = backbone.embed((images - imagenet[0]) / imagenet[1])
    assert maps.shape == (2, 64, 3, 2)
    assert backbone.network.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    torch.testing.assert_close(maps[:, :, 1, 1], tokens[:, 1 + 2 * 1 + 1], atol=1e-5, rtol=1e-4)
    assert (maps < 0).any()


def test_unusable_models_are_refused():
    with pytest.raises(InvalidInputError, match="did you mean convnext_tiny"):
        create_backbone("timm:convnext_tinny", 3)
    with pytest.raises(InvalidInputError, match=r"no model 'qqqq'; timm.list_models\(\) lists"):
        create_backbone("timm:qqqq", 3)
    with pytest.raises(InvalidInputError, match=r"'test_vit\.other': Invalid pretrained tag"):
        create_backbone("timm:test_vit.other", 3)
    with torch.device("meta"), pytest.raises(InvalidInputError, match="coat_tiny computes no maps"):
        create_backbone("timm:coat_tiny", 3)
    with pytest.raises(InvalidInputError, match=r"32 x 40 pixels .*; choose another image_size"):
        map_shape("timm:test_vit", (3, 32, 40))
    with pytest.raises(InvalidInputError, match="leave out reduced_strides"):
        create_backbone("timm:test_resnet", 3, reduced_strides=True)


def test_backbones_go_to_other_processes():
    backbone = create_backbone("timm:test_vit", 3).eval()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(backbone))(images), backbone(images))


def test_a_file_with_a_classification_layer(tmp_path):
    torch.manual_seed(1)
    published = timm.create_model("test_vit", pretrained=False).state_dict()
    save_file(published, tmp_path / "model.safetensors")
    backbone = create_backbone("timm:test_vit", 3, weights=tmp_path / "model.safetensors")
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, published[name])


def as_by_dinov2(tensors):
    """Names of the original files; the token was for training alone."""
    return tensors | {"mask_token": torch.zeros(1, 64)}


def as_by_convnext(tensors):
    """Names of the original files."""
    found = {}
    for name, tensor in tensors.items():
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        found[name.replace("head.norm", "norm").replace("head.fc", "head")] = tensor
    return found


@pytest.mark.parametrize(
    ("name", "rename"), [("test_vit", as_by_dinov2), ("test_convnext", as_by_convnext)]
)
def test_files_of_the_authors_of_a_model(name, rename, tmp_path):
    torch.manual_seed(1)
    expected = timm.create_model(name, pretrained=False).state_dict()
    file = rename(expected)
    assert file.keys() != expected.keys()
    torch.save({"model": file}, tmp_path / "original.pth")
    backbone = create_backbone(f"timm:{name}", 3, weights=tmp_path / "original.pth")
    for key, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    weight, _ = classification_layer(backbone, tmp_path / "original.pth", name, 1000)
    layer = backbone.classification_layers[0]
    assert torch.equal(weight, expected[f"{layer}weight"])


def test_dinov2_with_registers():
    with torch.device("meta"):
        backbone = create_backbone("timm:vit_small_patch14_reg4_dinov2", 3)
    expected = backbone.network.state_dict()
    file = dict(expected)
    file["register_tokens"] = torch.full(file.pop("reg_token").shape, 2.0)
    file["cls_token"] = torch.ones(1, 1, 384)
    file["pos_embed"] = torch.arange(1370.0)[:, None].expand(1, -1, 384) + 5
    file["mask_token"] = torch.zeros(1, 384)
    found = backbone.convert(file)
    assert found.keys() == expected.keys()
    assert (found["reg_token"] == 2).all() and (found["cls_token"] == 6).all()
    assert torch.equal(found["pos_embed"][0, :, 0], torch.arange(6.0, 1375))


def test_what_no_conversion_fits_is_named(tmp_path):
    for name in ("test_convnext", "test_vit"):
        tensors = timm.create_model(name, pretrained=False).state_dict()
        torch.save(tensors | {"more": torch.zeros(2, 2)}, tmp_path / "other.pth")
        with pytest.raises(InvalidInputError, match=f"into timm:{name}: it has unknown more; take"):
            create_backbone(f"timm:{name}", 3, weights=tmp_path / "other.pth")
    torch.save({"more": torch.zeros(2, 2)}, tmp_path / "other.pth")  # timm stumbles over it
    with pytest.raises(InvalidInputError, match=r"it lacks .*, and has unknown more; take"):
        create_backbone("timm:test_convnext", 3, weights=tmp_path / "other.pth")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
def test_the_classification_layer_of_a_file(name, tmp_path):
    published = timm.create_model(name, pretrained=False, num_classes=3)
    path = tmp_path / "model.safetensors"
    save_file(published.state_dict(), path)
    backbone = create_backbone(f"timm:{name}", 3, weights=path).eval()
    weight, bias = classification_layer(backbone, path, f"timm:{name}", 3)
    images = torch.randn(2, 3, *published.pretrained_cfg["input_size"][1:])
    with torch.no_grad():
        expected = published.eval()(backbone.prepare(images))
        logits = backbone.classified(images) @ weight.T + bias
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_published_weights(monkeypatch):
    monkeypatch.setattr("qpm_nn.backbones.timm_models._answers", lambda address: True)
    create, asked = timm.create_model, []

    def pretend(name, *, pretrained, **options):
        asked.append(pretrained)
        torch.manual_seed(len(asked))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", pretend)
    backbone = create_backbone("timm:test_vit", 3, weights="imagenet")
    assert asked[-1] and not any(asked[:-1])
    torch.manual_seed(len(asked))
    expected = create("test_vit", pretrained=False, num_classes=0, dynamic_img_size=True)
    assert torch.equal(backbone.network.cls_token, expected.cls_token)
    weight, _ = classification_layer(backbone, "imagenet", "timm:test_vit", 1000)
    torch.manual_seed(len(asked))
    assert torch.equal(weight, create("test_vit", pretrained=False).head.weight)


def test_without_network_the_message_says_what_to_fetch(monkeypatch, tmp_path):
    def no_network(request, timeout):
        raise URLError("no network")

    monkeypatch.setattr("qpm_nn.backbones.timm_models.urlopen", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    where = r"fetch https://\S+/timm/test_vit.r160_in1k/resolve/main/model.safetensors where"
    with pytest.raises(InvalidInputError, match=where):
        create_backbone("timm:test_vit", 3, weights="imagenet")
    with pytest.raises(InvalidInputError, match="No pretrained weights exist for test_mambaout"):
        create_backbone("timm:test_mambaout", 3, weights="imagenet")


def test_a_run_with_a_transformer(tree, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        "[dense]\nbatch_size = 8\nlearning_rate = 0.01\n[finetune]\nbatch_size = 8\n"
        "learning_rate = 0.01\n[problem]\nn_selected = 4\nn_per_class = 2\n[solve]\n"
        'method = "heuristic"\n'
    )
    options = ["--dataset", str(tree), "--config", str(file), "--image-size", "32"]
    options += ["--arch", "timm:test_vit", "--time-limit", "0.5", "--device", "cpu"]
    options += ["--dense-epochs", "1", "--finetune-epochs", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(run, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert read_config(tmp_path / "run" / "config.toml")["arch"] == "timm:test_vit"
    classifier, spec = load_classifier(tmp_path / "run" / "model.safetensors")
    assert spec.arch == "timm:test_vit"
    assert classifier.activations(torch.randn(1, 3, 32, 32)).maps.shape == (1, 4, 2, 2)
