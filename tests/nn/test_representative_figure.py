"""Figure of a representative interpretation: what it shows, and that it can be drawn."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from torch import nn

from qpm_nn.explanations.canvas import STYLE
from qpm_nn.explanations.representative import (
    MappedImages,
    case_study,
    draw_case_study,
    interpret,
)
from qpm_opt import InvalidInputError
from tests.nn.representative_networks import N_CLASSES, mapped, network, random_images

NAMES = [f"class {c}" for c in range(N_CLASSES)]
ODD_NAMES = [
    "",
    "US$ and 5$",
    "Журавль обыкновенный и другие птицы " * 6,
    "extremely long name of a class/" * 12,
    "line\nbreak\tand\x00zero \\frac{1} & <b> %s {0}",
    "שלום עולם",
    "\ud800 half a pair",
]


@pytest.fixture(scope="module")
def references():
    return mapped(network(), random_images(90))


@pytest.fixture(scope="module")
def found(references):
    """The image with the largest region, so that there is something to show."""
    every = [interpret(references, references.maps([i]), n_boundaries=15) for i in range(8)]
    return max(every, key=lambda one: one.cover.n_covered_same)


@pytest.fixture(scope="module")
def i(references, found):
    return next(i for i in range(8) if (references.maps([i]) == found.point).all())


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def check_drawing(figure):
    """All texts lie within the figure, and none lies on another or on a picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    boxes = [
        artist.get_window_extent(canvas.get_renderer())
        for artist in figure.findobj(Text)
        if artist.get_text().strip() and artist.get_visible()
    ]
    pictures = [axes.get_window_extent() for axes in figure.axes]
    assert boxes
    for n, box in enumerate(boxes):
        assert -1 <= box.x0 and box.x1 <= width + 1, "a text is cut off"
        assert -1 <= box.y0 and box.y1 <= height + 1, "a text is cut off"
        for other in boxes[:n]:
            assert not box.padded(-0.5).overlaps(other.padded(-0.5)), "texts on each other"
        for picture in pictures:
            assert not box.padded(-1).overlaps(picture.padded(-1)), "a text on a picture"
    stored = io.BytesIO()
    canvas.print_png(stored)
    pixels = np.asarray(Image.open(stored).convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_case_study_of_a_reference_image(references, found, i):
    study = case_study(found, references, i, references, NAMES, n_similar=4)
    assert study.class_name == NAMES[found.c]
    assert study.input.index == i and study.input.distance == 0
    members = [r for r in np.flatnonzero(found.covered) if r != i]
    apart = found.distances(references.maps(members))
    expected = [members[j] for j in np.argsort(apart, kind="stable")[:4]]
    assert [one.index for one in study.similar] == expected
    np.testing.assert_allclose([one.distance for one in study.similar], np.sort(apart)[:4])
    for one in [study.input, *study.similar]:
        scores = np.exp(references.scores[one.index])
        assert one.probability == pytest.approx(scores[found.c] / scores.sum())
        np.testing.assert_allclose(one.image, references.pixels([one.index])[0, 0])
        assert one.image.shape == (8, 8) and one.heat.shape == (200, 200)
        expected = found.heat_maps(references.maps([one.index]), (200, 200))[0]
        np.testing.assert_allclose(one.heat, expected)


def test_case_study_of_another_image(references):
    """An image of the same number among others is not the input itself."""
    unseen = MappedImages(references.split, random_images(10, seed=3))
    for i in range(10):
        found = interpret(references, unseen.maps([i]), n_boundaries=15)
        if found.covered[i]:
            break
    n_members = int(found.covered.sum())
    study = case_study(found, unseen, i, references, NAMES, n_similar=90)
    assert len(study.similar) == n_members
    assert i in [one.index for one in study.similar]
    np.testing.assert_allclose(study.input.image, unseen.pixels([i])[0, 0])


def test_the_nearest_of_more_images_than_a_batch(references, found):
    everything = replace(found, covered=np.ones(90, bool))
    apart = found.distances(references.maps(range(90)))
    order, distances = everything.nearest(references, 90)
    assert order == np.argsort(apart, kind="stable").tolist()
    np.testing.assert_allclose(distances, np.sort(apart))


def test_data_for_json(references, found, i):
    study = case_study(found, references, i, references, NAMES, n_similar=2)
    data = json.loads(json.dumps(study.to_dict()))
    assert data["class_name"] == NAMES[found.c]
    assert data["input"]["index"] == i
    assert [one["index"] for one in data["similar"]] == [one.index for one in study.similar]
    assert data["interpretation"]["n_covered_same"] == found.cover.n_covered_same
    assert data["interpretation"]["layer"] == references.split.layer
    greedy = interpret(references, found.point, method="greedy", boundaries=found.sampled)
    assert data["greedy"] == {
        "n_covered_same": greedy.cover.n_covered_same,
        "n_boundaries": len(greedy.boundaries),
    }


def test_heat_maps_for_json_are_means_of_blocks(references, found, i):
    study = case_study(found, references, i, references, NAMES, n_similar=0)
    heat = np.zeros((28, 42))
    heat[:2, 3:6] = 1
    heat[2:4, :3] = [[0.2, 0.4, 0.6], [0.2, 0.4, 0.6]]
    data = replace(study.input, heat=heat).to_dict()
    small = np.frombuffer(bytes.fromhex(data["heat"]), np.uint8).reshape(14, 14)
    assert study.to_dict()["heat_shape"] == [14, 14]
    assert small[0].tolist() == [0, 255, *[0] * 12] and small[1].tolist() == [102, *[0] * 13]
    assert not small[2:].any()


def test_a_region_without_reference_images_of_the_class_is_valid_json(references, found):
    """The gap is infinite then, for which JSON has no word."""
    cover = replace(found.cover, objective=0, bound=3)
    assert cover.relative_gap == np.inf
    assert replace(found, cover=cover).to_dict()["relative_gap"] is None
    cover = replace(found.cover, objective=4, bound=5)
    assert replace(found, cover=cover).to_dict()["relative_gap"] == 0.25


@pytest.mark.parametrize("n_similar", [0, 1, 6])
def test_drawing(references, found, i, n_similar):
    study = case_study(found, references, i, references, NAMES, n_similar)
    figure = draw_case_study(study)
    check_drawing(figure)
    assert len(figure.axes) == 2 * (1 + len(study.similar))
    shown = " ".join(texts(figure))
    assert NAMES[found.c] in shown and f"image {i}" in shown
    assert f"{study.input.probability:.1%}" in shown
    caption = shown.replace("\n", " ")
    assert f"cover {found.cover.n_covered_same} of" in caption and "proved" in caption


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_odd_names(references, found, i, name):
    study = case_study(found, references, i, references, [name] * N_CLASSES, n_similar=2)
    check_drawing(draw_case_study(study))


@pytest.mark.filterwarnings("ignore:Glyph")  # without a font that has them
def test_east_asian_name(references, found, i):
    study = case_study(found, references, i, references, ["日本の鳥"] * N_CLASSES, n_similar=2)
    figure = draw_case_study(study)
    check_drawing(figure)
    title = next(text for text in figure.findobj(Text) if text.get_text() == "日本の鳥")
    # Fonts beyond DejaVu Sans fill in where they are installed.
    assert title.get_fontfamily() == STYLE["font.family"]


def test_colour_images():
    references = mapped(network(channels=3), random_images(60, channels=3))
    found = interpret(references, references.maps([0]), n_boundaries=10)
    study = case_study(found, references, 0, references, NAMES)
    assert study.input.image.shape == (8, 8, 3)
    check_drawing(draw_case_study(study))


def test_images_that_are_not_square():
    model = network()
    model.insert(5, nn.AdaptiveMaxPool2d(4))  # or the layers behind do not fit
    pixels = random_images(30).repeat(1, 1, 1, 2)
    references = mapped(model, pixels)
    found = interpret(references, references.maps([0]), n_boundaries=10)
    study = case_study(found, references, 0, references, NAMES)
    assert study.input.image.shape == (8, 16)
    check_drawing(draw_case_study(study))


def test_a_lone_image(references, found, i):
    """Nobody but the input is covered."""
    covered = np.zeros(90, bool)
    covered[i] = True
    study = case_study(replace(found, covered=covered), references, i, references, NAMES)
    assert study.similar == []
    check_drawing(draw_case_study(study))


def test_bad_input(references, found, i):
    with pytest.raises(InvalidInputError, match="2 class names"):
        case_study(found, references, i, references, NAMES[:2])
    for wrong in (-1, 90):
        with pytest.raises(InvalidInputError, match=f"no image {wrong}; 0 to 89"):
            case_study(found, references, wrong, references, NAMES)
    with pytest.raises(InvalidInputError, match="n_similar is -1"):
        case_study(found, references, i, references, NAMES, n_similar=-1)
