"""The page: complete by itself, with text that is only text."""

import pytest
from matplotlib.figure import Figure

from qpm_nn.report.page import Heading, Paragraph, Picture, Table, html_page


def figure():
    drawn = Figure((1.0, 1.0))
    drawn.text(0.1, 0.5, "a < b & c")
    return drawn


@pytest.mark.parametrize("photographs", [False, True])
def test_nothing_is_markup_but_the_markup(photographs):
    evil = "<b>&\"'\\1 猫"
    page = html_page(
        evil,
        [
            Heading(evil),
            Heading(evil, 3),
            Paragraph(evil),
            Table((evil, "n"), [(evil, "1")]),
            Picture(figure(), evil, photographs),
        ],
    )
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&amp;&quot;&#x27;\\1 猫") == 10
    assert '<a href="#s0">' in page and 'id="s0"' in page
    assert ("<svg" in page) != photographs and ("data:image/png" in page) == photographs
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "<?xml" not in page and "<!DOCTYPE svg" not in page


def test_the_same_blocks_make_the_same_page():
    one, two = (html_page("x", [Picture(figure(), "c"), Picture(figure(), "c")]) for _ in range(2))
    assert one == two
