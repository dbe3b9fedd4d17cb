"""The page: complete by itself, with data that are only data."""

import json

import pytest

from qpm_nn.report.page import SCRIPTS, html_page
from tests.nn.browser import written

REPORT = {"title": "</script><script>alert(1)</script> & <b>", "classes": ["</script>", "\u2028猫"]}


def test_no_text_ends_its_element():
    page = html_page(REPORT, {"thumbnails": [], "maps": []})
    assert page.count("</script>") == 3 and "<b>" not in page
    data = page.partition('id="report">')[2].partition("</script>")[0]
    assert json.loads(data) == REPORT
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert html_page(REPORT, {"thumbnails": [], "maps": []}) == page


def test_all_scripts_are_in_it():
    page = html_page(REPORT, {})
    for name in ("function h(", "function heatCanvas(", "function setsPage(", "const PAGES"):
        assert name in page
    assert len(set(SCRIPTS)) == len(SCRIPTS)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        html_page(REPORT | {"accuracy": float("nan")}, {})


def test_how_numbers_should_be_written():
    # What the tests in the browser compare with, by hand.
    assert written(0.8957, "percent") == "89.6 %" and written(None, "fixed2") == "-"
    assert written(-0.001, "signed2") == "+0.00" and written(0.125, "fixed2") == "0.13"
    assert written(-2.345, "signed2") == "-2.35" and written(7, "integer") == "7"
