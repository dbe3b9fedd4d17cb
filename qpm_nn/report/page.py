"""A report as one HTML file that a browser shows without network or server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

#: In the order in which they build on each other.
SCRIPTS = (
    "elements",
    "pictures",
    "charts",
    "trees",
    "overview",
    "classes",
    "features",
    "images",
    "sets",
    "regions",
    "pages",
)


def html_page(report: Mapping[str, Any], media: Mapping[str, Any]) -> str:
    """The page of a report, with nothing that is loaded from elsewhere.

    Parameters
    ----------
    report : mapping
        What ``report.json`` has, where all measured numbers of the page come from.
    media : mapping
        ``thumbnails``, a data URI for each image of the report, and ``maps``, the coded intensities
        of the features that the image's ``maps`` names; ``training`` and ``heat``, those of
        training images and of heat maps, by the numbers that ``regions`` has.
    """
    assets = resources.files("qpm_nn.report") / "assets"

    def asset(name: str) -> str:
        return (assets / name).read_text(encoding="utf-8")

    return Template(asset("report.html")).substitute(
        title=escape(str(report["title"])),
        style=asset("report.css"),
        report=_embedded(report),
        media=_embedded(media),
        script="\n".join(asset(f"{name}.js") for name in SCRIPTS),
    )


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that no browser takes for the end of its element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
