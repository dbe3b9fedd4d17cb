"""Regions in a report: what qpm explain --representative left, in numbers, pictures and words."""

from __future__ import annotations

import base64
import json
import logging
import math
import shutil

import numpy as np
import pytest
import torch

from qpm_nn.data import load_data
from qpm_nn.explanations.representative import MappedImages, split_network
from qpm_nn.explanations.representative.figure import HEAT_SHAPE
from qpm_nn.pipelines.explain import explain
from qpm_nn.pipelines.run import report as write_report
from qpm_nn.pipelines.run import run
from qpm_nn.report import html_page, read_studies, study_files
from qpm_nn.report import regions as module
from qpm_nn.report.media import Sizes, thumbnail
from qpm_nn.report.regions import RegionsOfImages
from qpm_nn.saving import load_classifier
from tests.nn.browser import ReportPage, check_numbers, chromium
from tests.nn.conftest import Recorder, tiny_config

EXPLAINED = [6, 2, 3]
N_TRAIN = 32
COUNTS = {"n_test": 8, "n_train": N_TRAIN, "n_classes": 4}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def config(tree):
    # Trained so little that regions are small and there are errors.
    return tiny_config(tree, dense={"epochs": 1}, finetune={"epochs": 1})


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("regions") / "run"
    run(config, out)
    assert read(out)["regions"]["images"] == []
    explain(out, EXPLAINED, representative=True, n_boundaries=12)
    recorder = Recorder()
    run(config, out, observer=recorder)
    assert recorder.ran == ["report"]  # the run's own, made again because there is more to tell
    return out


def read(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def media_of(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(html.partition('id="media">')[2].partition("</script>")[0])


def study_of(folder, i):
    path = folder / "figures" / f"image_{i}_representative.json"
    return json.loads(path.read_text(encoding="utf-8"))


def of_input(study, **changes):
    return study | {"input": study["input"] | changes}


def test_numbers_follow_from_the_case_studies(finished, tree):
    report, training = read(finished), load_data(str(tree), image_size=8).train
    regions = report["regions"]
    assert regions["n_explained"] == 3
    assert [report["images"][one["image"]]["index"] for one in regions["images"]] == [2, 3, 6]
    for one, i in zip(regions["images"], sorted(EXPLAINED), strict=True):
        study = study_of(finished, i)
        found = study["interpretation"]
        for name in ("n_covered_same", "n_same", "n_covered_other", "n_sampled", "bound"):
            assert one[name] == found[name]
        assert one["class"] == found["class"] == report["images"][one["image"]]["predicted"]
        assert one["n_boundaries"] == len(found["boundaries"]) == len(one["between"])
        assert one["is_proved"] == (found["solution_status"] == "optimal")
        assert one["greedy"] == study["greedy"]
        assert one["greedy"]["n_covered_same"] <= one["n_covered_same"] <= one["bound"]
        assert one["n_covered_same"] <= one["n_same"]
        for image, other in zip(one["similar"], study["similar"], strict=True):
            assert image["index"] == other["index"]
            assert image["label"] == training.labels[other["index"]]
            assert image["distance"] == pytest.approx(other["distance"], rel=1e-6)
            assert image["probability"] == pytest.approx(other["probability"], rel=1e-6)


def test_pictures_are_those_of_the_images(finished, tree):
    report, media = read(finished), media_of(finished)
    data = load_data(str(tree), image_size=8)
    classifier, spec = load_classifier(finished / "model.safetensors")
    split = split_network(classifier, spec.preprocessing(data.train.__getitems__(range(8))[0]))
    images = MappedImages(split, data.train, spec.preprocessing)
    every = [image for one in report["regions"]["images"] for image in one["similar"]]
    assert len(every) > 3
    for one in report["regions"]["images"]:
        for image in one["similar"]:
            i = image["index"]
            expected = thumbnail(data.train[i][0], report["run"]["thumbnail"])
            assert media["training"][image["training"]] == expected
            probability = torch.from_numpy(images.scores[i]).softmax(0)[one["class"]]
            assert image["probability"] == pytest.approx(float(probability), rel=1e-4)
    assert len(media["training"]) == len({image["index"] for image in every})
    # Each has its own heat map.
    studies = [study_of(finished, i) for i in sorted(EXPLAINED)]
    for one, study in zip(report["regions"]["images"], studies, strict=True):
        for shown, image in zip(
            [one, *one["similar"]], [study["input"], *study["similar"]], strict=True
        ):
            assert base64.b64decode(media["heat"][shown["heat"]]).hex() == image["heat"]
    assert len(media["heat"]) == 3 + len(every) and len(set(media["heat"])) > 1


def test_studies_of_another_model_go(config, tree, tmp_path):
    out = tmp_path / "run"
    run(config, out)
    explain(out, [0], representative=True, n_boundaries=8)
    assert len(study_files(out / "figures")) == 1
    run(tiny_config(tree, dense={"epochs": 1}, finetune={"epochs": 2}), out)
    assert study_files(out / "figures") == []
    assert read(out)["regions"]["images"] == []


def test_studies_that_cannot_be_shown_are_named(finished, tmp_path, caplog):
    good, other = study_of(finished, 2), study_of(finished, 6)
    for name, text in (
        ("image_10_representative", json.dumps(of_input(other, index=10))),
        ("image_2_representative", json.dumps(good)),
        ("image_02_representative", json.dumps(good)),
        ("image_7_representative", json.dumps(good)),
        ("image_1_representative", json.dumps(good | {"format": "qpm-representative/0"})),
        ("image_3_representative", "{"),
        ("image_4_representative", "[]"),
        ("image_x_representative", json.dumps(good)),
        ("image_5_features", json.dumps(good)),
    ):
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    numbers = [path.name.split("_")[1] for path in study_files(tmp_path)]
    assert numbers == ["1", "02", "2", "3", "4", "7", "10"]
    with caplog.at_level(logging.WARNING):
        found = read_studies(tmp_path, **(COUNTS | {"n_test": 11}))
    assert found == [good, of_input(other, index=10)]
    named = [
        record.message.partition(" is damaged, of another version")[0] for record in caplog.records
    ]
    assert named == [
        str(tmp_path / f"image_{i}_representative.json") for i in ("1", "02", "3", "4", "7")
    ]
    assert read_studies(tmp_path / "missing", **COUNTS) == []


def lacking(name):
    return lambda study: study.pop(name)


def setting(*path, to):
    def change(study):
        for name in path[:-1]:
            study = study[name]
        study[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        *map(lacking, ("format", "input", "similar", "heat_shape", "interpretation", "greedy")),
        *(setting("input", "index", to=i) for i in (99999, -1, 3, 2.0, True, None)),
        *(setting("similar", 0, "index", to=i) for i in (99999, N_TRAIN, -1, "0")),
        *(
            setting("input", "heat", to=heat)
            for heat in ("zz", "zz" * 196, "00" * 195, 3, "é" * 392)
        ),
        setting("similar", 0, "heat", to="00" * 197),
        setting("heat_shape", to=[7, 28]),
        setting("heat_shape", to=14),
        *(setting("input", "probability", to=p) for p in (math.nan, math.inf, -0.1, 1.1, "1")),
        *(setting("similar", 0, "distance", to=d) for d in (math.nan, math.inf, -1, 10**400, None)),
        *(setting("interpretation", "class", to=c) for c in (4, -1, "a", 1.5)),
        *(setting("interpretation", "boundaries", to=b) for b in (3, [[]], [{"classes": [0, 4]}])),
        *(setting("interpretation", "boundaries", 0, "classes", to=c) for c in (4, [0], [0, -1])),
        *(setting("interpretation", "n_same", to=n) for n in (N_TRAIN + 1, -1, math.nan)),
        setting("interpretation", "n_covered_same", to=N_TRAIN + 1),
        setting("interpretation", "n_covered_other", to=N_TRAIN + 1),
        setting("interpretation", "n_sampled", to=0),
        setting("interpretation", "bound", to=None),
        setting("interpretation", "relative_gap", to=math.nan),
        setting("interpretation", "has_fewest", to="yes"),
        setting("interpretation", "layer", to="\ud800"),
        setting("interpretation", "method", to=3),
        setting("interpretation", to=[]),
        setting("similar", to={}),
        setting("similar", to=[3]),
        setting("greedy", to={}),
        setting("greedy", to=3),
        setting("greedy", "n_boundaries", to=math.nan),
        setting("greedy", "n_covered_same", to=-1),
        setting("greedy", "more", to=math.nan),
    ],
)
def test_a_bad_study_is_left_out(finished, tmp_path, caplog, change):
    """Alone: the report of the others is made."""
    good, bad = study_of(finished, 6), study_of(finished, 2)
    assert bad["similar"] and bad["interpretation"]["boundaries"]
    change(bad)
    for i, study in ((6, good), (2, bad)):
        path = tmp_path / f"image_{i}_representative.json"
        path.write_text(json.dumps(study), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert read_studies(tmp_path, **COUNTS) == [good]
    assert len(caplog.records) == 1 and "image_2_representative" in caplog.text


def test_what_any_method_writes_is_read(finished, tmp_path, caplog):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    explain(out, range(8), representative=True, method="greedy", sampling="reference")
    explain(out, [1], representative=True, n_boundaries=1)
    explain(out, [5], representative=True, time_limit=1e-6)
    with caplog.at_level(logging.WARNING):
        studies = read_studies(out / "figures", **COUNTS)
    assert [study["input"]["index"] for study in studies] == list(range(8))
    assert {study["interpretation"]["method"] for study in studies} == {"greedy", "exact"}
    assert caplog.records == []


def test_what_cannot_be_read_is_left_out(tmp_path, caplog):
    (tmp_path / "image_1_representative.json").write_text("[" * 100_000)
    (tmp_path / "image_2_representative.json").mkdir()
    (tmp_path / "image_3_representative.json").write_bytes(b"\xff")
    with caplog.at_level(logging.WARNING):
        assert read_studies(tmp_path, **COUNTS) == []
    assert len(caplog.records) == 3


def test_a_run_with_a_bad_study_has_a_report(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    path = out / "figures" / "image_3_representative.json"
    path.write_text(json.dumps(of_input(study_of(out, 3), index=99999)), encoding="utf-8")
    write_report(out)
    shown = [one["image"] for one in read(out)["regions"]["images"]]
    assert [read(out)["images"][place]["index"] for place in shown] == [2, 6]


def test_photographs_of_training_images_count_in_the_size_of_the_page(
    config, finished, tmp_path, monkeypatch
):
    out, asked, fitting = tmp_path / "run", [], Sizes.fitting
    shutil.copytree(finished, out)

    def note(image_shape, map_shape, n_images, n_maps):
        asked.append(n_images)
        return fitting(image_shape, map_shape, n_images, n_maps)

    monkeypatch.setattr(Sizes, "fitting", note)
    (out / "report.json").unlink()
    run(config, out)
    media = media_of(out)
    assert len(media["training"]) > 0
    assert asked == [len(media["thumbnails"]) + len(media["training"])]


def test_many_studies_are_cut_off(finished, tree, monkeypatch):
    monkeypatch.setattr(module, "N_REGIONS", 2)
    studies = read_studies(finished / "figures", **COUNTS)
    regions = RegionsOfImages(studies, load_data(str(tree), image_size=8).train)
    assert regions.inputs == [2, 3]
    record = regions.record([0, 1])
    assert record["n_explained"] == 3 and len(record["images"]) == 2
    shown = {image["index"] for one in record["images"] for image in one["similar"]}
    assert shown == set(regions.training)


def test_the_page(browser, finished):
    report, page = read(finished), ReportPage(browser, finished / "report.html")
    for one in report["regions"]["images"]:
        page.go(f"regions/{one['image']}")
        numbers = page.numbers()
        check_numbers(report, numbers)
        places = {place.rpartition(".")[2] for place, _, _ in numbers}
        assert {
            "n_covered_same",
            "n_same",
            "n_covered_other",
            "n_boundaries",
            "n_sampled",
        } <= places
        assert page.page.locator(".maps canvas").count() == 1 + len(one["similar"])
        shown = page.page.locator(".maps img")
        words = [shown.nth(n).get_attribute("alt") for n in range(shown.count())]
        assert words[0].startswith("Test image ")
        for image, text in zip(one["similar"], words[1:], strict=True):
            name = report["classes"][image["label"]]["name"]
            assert text == f"Training image {image['index']}, {name}"
        for canvas in page.page.locator(".maps canvas").all():
            assert "image" in canvas.get_attribute("aria-label")
            assert canvas.get_attribute("role") == "img"
        assert "greedy, as in the paper" in page.page.locator("main").inner_text()
    first = report["regions"]["images"][0]["image"]
    page.go(f"image/{first}")
    page.page.get_by_role("link", name="Its region").click()
    assert page.page.evaluate("location.hash") == f"#/regions/{first}"
    page.page.locator(".tiles a").nth(1).click()
    assert (
        page.page.evaluate("location.hash")
        == f"#/regions/{report['regions']['images'][1]['image']}"
    )
    assert page.heading() == "Regions"
    assert page.complaints == [] and page.loaded() == []


def test_heat_maps_have_their_intensities(browser, finished):
    """The page paints a map over the photograph: with an intensity of 0 nothing is coloured."""
    report, media = read(finished), media_of(finished)
    one = report["regions"]["images"][0]
    values = np.zeros(HEAT_SHAPE, np.uint8)
    values[:, HEAT_SHAPE[1] // 2 :] = 255
    media["heat"][one["heat"]] = base64.b64encode(values.tobytes()).decode()
    path = finished.parent / "painted.html"
    path.write_text(html_page(report, media), encoding="utf-8")
    page = ReportPage(browser, path)
    page.go(f"regions/{one['image']}")
    excess = (
        "(() => { const c = document.querySelector('.maps canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " return [0.1, 0.9].map((x) => { const k = 4 * (80 * c.width + Math.round(x * c.width));"
        " return d[k] - d[k + 2]; }); })()"
    )
    # Red beyond blue: photographs are grey. The page paints when it has decoded the photograph.
    page.page.wait_for_function(f"{excess}[1] > 100")
    assert abs(page.page.evaluate(excess)[0]) <= 2


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_widths(browser, finished, width, scheme):
    page = ReportPage(browser, finished / "report.html", width, scheme)
    for address in ("regions", f"regions/{read(finished)['regions']['images'][1]['image']}"):
        page.go(address)
        assert page.overflow() <= 0, address
    assert page.complaints == []


def test_what_is_not_proved_is_called_so(browser, finished):
    report, media = read(finished), media_of(finished)
    one, other, third = report["regions"]["images"]
    one |= {"bound": one["n_covered_same"] + 2, "relative_gap": 0.25}
    one |= {"is_proved": False, "has_fewest": False}
    other |= {"method": "greedy", "is_proved": True, "has_fewest": False}
    third |= {"similar": [], "n_covered_same": 0, "relative_gap": None, "is_proved": False}
    path = finished.parent / "changed.html"
    path.write_text(html_page(report, media), encoding="utf-8")
    page = ReportPage(browser, path)

    def words(image):
        page.go(f"regions/{image['image']}")
        check_numbers(report, page.numbers())
        return page.page.locator("main").inner_text()

    text = words(one)
    assert f"covers more than {one['bound']}." in text
    assert "no choice covers over 25.0 % more" in text
    assert "proved" not in text and "fewer" not in text and "best found" in text
    text = words(other)
    assert "chosen greedily" in text and "proved" in text and "best found" not in text
    assert "No training image is in the region." in words(third)
    assert page.complaints == []


def test_without_studies_the_page_says_how_to_get_them(browser, finished, tmp_path):
    report = read(finished)
    report["regions"] |= {"images": [], "n_explained": 0}
    path = tmp_path / "report.html"
    path.write_text(html_page(report, media_of(finished)), encoding="utf-8")
    page = ReportPage(browser, path)
    page.go("regions")
    text = page.page.locator("main").inner_text()
    assert "qpm explain RUN --representative --image I" in text and "qpm report RUN" in text
    page.go("image/0")
    assert page.page.get_by_role("link", name="Its region").count() == 0
    assert page.complaints == []
