"""The report in a real browser: pages by click and by keyboard, numbers, widths, odd data."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from qpm_nn.config_layers import make_config
from qpm_nn.data import DataModule
from qpm_nn.pipelines.run import run
from qpm_nn.report import html_page
from tests.nn.browser import ReportPage, check_numbers, chromium
from tests.nn.conftest import tiny_config

#: Every kind of page.
ADDRESSES = (
    "",
    "classes",
    "class/0",
    "features",
    "feature/1",
    "compare/0/1",
    "compare/0/1/2",
    "image/0",
    "errors",
    "error/0",
    "map",
    "regions",
    "sets",
)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("report") / "run"
    # Trained so little that there are errors.
    run(tiny_config(tree, model="chiqpm", dense={"epochs": 1}, finetune={"epochs": 1}), out)
    return out


def read(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_every_number_is_that_of_the_json(browser, finished):
    report, page = read(finished), ReportPage(browser, finished / "report.html")
    n_numbers = 0
    for address in (*ADDRESSES, *(f"image/{i}" for i in range(len(report["images"])))):
        page.go(address)
        n_numbers += check_numbers(report, page.numbers())
    assert n_numbers > 200
    assert page.complaints == [] and page.loaded() == []


def test_pages_by_click(browser, finished):
    report, page = read(finished), ReportPage(browser, finished / "report.html")
    click = page.page.get_by_role
    click("link", name="Classes", exact=True).click()
    click("link", name=report["classes"][2]["name"]).first.click()
    page.arrives_at(report["classes"][2]["name"])
    feature = report["classes"][2]["features"][0][0]
    click("link", name=f"feature {report['features'][feature]['feature']}").first.click()
    page.arrives_at(f"Feature {report['features'][feature]['feature']}")
    page.go("class/2")
    page.page.locator(".tiles a").first.click()
    page.arrives_at(re.compile(f"^{report['classes'][2]['name']}, "))
    assert page.page.evaluate("location.hash").startswith("#/image/")
    page.page.go_back()
    page.arrives_at(report["classes"][2]["name"])
    click("link", name="Errors", exact=True).click()
    click("link", name="look").first.click()
    page.arrives_at(re.compile("taken for"))
    assert page.complaints == []


def test_search_and_keyboard(browser, finished):
    report, page = read(finished), ReportPage(browser, finished / "report.html")
    keys = page.page.keyboard
    keys.press("/")
    keys.type("CLASS3")
    keys.press("Enter")
    page.arrives_at("class3")
    # The page that was gone to has the focus, but no frame around all of it.
    focused = page.page.evaluate(
        "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert focused == ["MAIN", "none"]
    keys.press("/")
    keys.type("feature")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        keys.press(key)
    page.arrives_at(re.compile("^Feature "))
    keys.press("/")
    keys.type("nothing like it")
    assert page.page.get_by_text("Nothing is called so.").is_visible()
    keys.press("Escape")
    assert not page.page.get_by_text("Nothing is called so.").is_visible()
    assert page.complaints == []
    # Whatever can be clicked can be reached.
    page.go("sets")
    reached = set()
    for _ in range(80):
        keys.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
    assert any("range" in one for one in reached) and len(reached) > 8
    assert report["sets"] is not None


def test_the_slider_moves_the_set_and_the_tree(browser, finished):
    report, page = read(finished), ReportPage(browser, finished / "report.html")
    page.go("sets")
    slider = page.page.locator("#coverage")
    n = len(report["sets"]["coverages"])
    assert slider.input_value() == str(report["sets"]["initial"])
    sizes = []
    for k in range(n):
        slider.fill(str(k))
        numbers = page.numbers()
        check_numbers(report, numbers)
        places = [place for place, _, _ in numbers]
        assert f"sets.coverages.{k}.demanded" in places and f"sets.coverages.{k}.level" in places
        limited = report["sets"]["coverages"][k]["threshold"] is not None
        assert (f"sets.coverages.{k}.threshold" in places) == limited
        entries = [row for row in report["sets"]["images"][0]["sets"] if row[0] <= k]
        members = page.page.locator(".members li").all_inner_texts()
        assert members == [report["classes"][c]["name"] for c in entries[-1][1]]
        sizes.append(len(members))
        assert page.page.locator("figure svg").count() == 1
    assert sizes[0] <= sizes[-1] == 4  # with 99.5 % and four calibration images: all classes
    slider.focus()
    page.page.keyboard.press("ArrowLeft")
    assert slider.input_value() == str(n - 2)
    assert page.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_nothing_is_wider_than_the_window(browser, finished, width, scheme, tmp_path):
    page = ReportPage(browser, finished / "report.html", width, scheme)
    for address in ADDRESSES:
        page.go(address)
        assert page.overflow() <= 0, address
        page.page.screenshot(path=tmp_path / "page.png", full_page=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    first = page.page.evaluate(ground)
    page.page.get_by_role("button").click()
    assert page.page.evaluate(ground) != first
    assert (first == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.complaints == []


LONG = "averylongnamewithoutanyspaceorhyphen" * 8


@pytest.mark.parametrize(
    ("names", "channels", "side"),
    [
        (("鳥", "طائر", LONG, "US$ <b>&amp;\u202e$x$</b>"), 1, 8),
        (("one", "other"), 3, 96),
    ],
    ids=["odd names, grey images of 8 pixels", "two classes of photographs"],
)
def test_odd_data(browser, names, channels, side, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(12 * len(names)) % len(names)
    images = rng.integers(0, 60, (len(labels), channels, side, side), dtype=np.uint8)
    for i, c in enumerate(labels):
        images[i, :, c * side // 8 : (c + 2) * side // 8] += 150
    data = DataModule.from_arrays(images, labels, class_names=names)
    settings = {
        "model": "chiqpm",
        "arch": "convnet_tiny",
        "dense": {"epochs": 2, "batch_size": 8},
        "finetune": {"epochs": 1, "batch_size": 8},
        "problem": {"n_selected": 4, "n_per_class": 2},
        "runtime": {"device": "cpu", "threads": 1},
        "data": {"name": "mine"},
    }
    out = tmp_path / "run"
    run(make_config(settings), out, data=data)
    report = read(out)
    for width in (1280, 400):
        page = ReportPage(browser, out / "report.html", width)
        for address in ADDRESSES:
            page.go(address)
            check_numbers(report, page.numbers())
            assert page.overflow() <= 0, (address, width)
            assert page.page.locator("main b script").count() == 0
        page.go("class/0")
        assert page.heading() == names[0]
        assert page.complaints == []


def test_a_thousand_classes(browser, finished, tmp_path):
    """The classes of a small report many times over."""
    report = read(finished)
    n, few = 1000, len(report["classes"])
    names = [f"kind {c}" for c in range(n)]
    report["classes"] = [
        report["classes"][c % few] | {"name": name} for c, name in enumerate(names)
    ]
    report["map"]["classes"] = list(range(n))
    report["run"]["n_classes"] = n
    media = page_media(finished)
    path = tmp_path / "report.html"
    path.write_text(html_page(report, media), encoding="utf-8")
    page = ReportPage(browser, path)
    for address in ("", "classes", "class/999", "map", "regions"):
        page.go(address)
        assert page.overflow() <= 0
    page.go("classes")
    assert page.page.locator(".tiles li").count() == n
    page.page.get_by_placeholder("Filter classes").fill("kind 99")
    assert page.page.locator(".tiles li:visible").count() == 11
    assert page.complaints == []


def page_media(folder):
    """Pictures of a report, from its page."""
    html = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(html.partition('id="media">')[2].partition("</script>")[0])


def test_a_model_without_sets(browser, tree, tmp_path):
    config = tiny_config(tree, model="sldd")
    run(replace(config, seed=5), tmp_path / "run")
    report = read(tmp_path / "run")
    page = ReportPage(browser, tmp_path / "run" / "report.html")
    assert page.page.get_by_role("link", name="Sets").count() == 0
    for address in ADDRESSES[:-1]:
        page.go(address)
        check_numbers(report, page.numbers())
    page.go("constructor/1")
    assert page.heading() == report["title"]
    page.go("image/100000")
    assert page.heading() == "Not in this report"
    assert page.complaints == []
