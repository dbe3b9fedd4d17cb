"""Figures as SVG."""

from __future__ import annotations

import io

from matplotlib import rc_context
from matplotlib.figure import Figure

from qpm_nn.explanations.canvas import any_letters


def as_svg(figure: Figure, name: str = "figure") -> str:
    """The figure as SVG, the same at every call, with text that can be searched and copied.

    Letters are set in fonts of whoever looks at it, so names of any alphabet are legible. ``name``
    keeps references apart where several figures stand in one page.
    """
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), any_letters():
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
