"""Picture of a feature: how often it has which value, and its two states."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qpm_nn.explanations.canvas import INK, MUTED, STYLE
from qpm_nn.explanations.lettering import elided, listed, printable
from qpm_nn.explanations.panel import NAME_SIZE, plain_axes, titled_panel
from qpm_nn.explanations.profiles import FeatureProfile

#: A bar so many times as high as all others is cut off, for it would hide them.
_CUT = 3.0
#: Most em of names in a sentence.
_NAME_EM = 48.0
# Inches.
WIDTH, HEIGHT, LEFT, BELOW = 4.8, 2.3, 0.75, 0.5


@rc_context(STYLE)
def draw_feature_histogram(profile: FeatureProfile, colours: Mapping[int, str]) -> Figure:
    """Histogram of a feature with the two normals fitted to it, off and on.

    A bar that is much higher than the others, such as that of inactive images, is cut off, with the
    number of its images beside it.

    Parameters
    ----------
    profile : FeatureProfile
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    """
    title = f"Feature {profile.feature}"
    axes = titled_panel(title, _caption(profile), LEFT, WIDTH, HEIGHT, right=0.3, below=BELOW)
    plain_axes(axes)
    counts, edges = np.array(profile.counts), np.array(profile.edges)
    colour = colours[profile.feature]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour, alpha=0.8, linewidth=0)
    ranked = np.sort(counts)[::-1]
    is_cut = len(counts) > 1 and ranked[0] > _CUT * max(ranked[1], 1)
    top = 1.6 * max(ranked[1], 1) if is_cut else 1.12 * ranked[0]
    axes.set_ylim(0, top)
    if is_cut:
        highest = int(counts.argmax())
        on_right = highest < len(counts) / 2
        axes.annotate(
            f"{counts[highest]} images",
            (edges[highest + on_right], top),
            (4 if on_right else -4, -3),
            textcoords="offset points",
            ha="left" if on_right else "right",
            va="top",
            fontsize=NAME_SIZE - 1,
            color=MUTED,
        )
    x = np.linspace(edges[0], edges[-1], 801)
    scale = profile.n_images * (edges[1] - edges[0])
    for mode, dashes in zip(profile.modes, ("--", "-"), strict=False):
        density = [scale * mode.weight * NormalDist(mode.mean, mode.std).pdf(v) for v in x]
        label = f"{'on' if dashes == '-' else 'off'}: mean {mode.mean:+.2f}, {mode.weight:.0%}"
        axes.plot(x, density, dashes, color=INK, linewidth=1.3, label=label)
    if profile.modes:
        where = "upper left" if counts.argmax() > len(counts) / 2 else "upper right"
        axes.legend(loc=where, frameon=False, fontsize=NAME_SIZE - 1)
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel="standard deviations from the mean", ylabel="images")
    return axes.figure


def _caption(profile: FeatureProfile) -> str:
    names = [printable(one.class_name) for one in profile.classes if one.weight > 0]
    against = [printable(one.class_name) for one in profile.classes if one.weight < 0]
    text = f"Classes: {listed(names, _NAME_EM)}. " if names else ""
    text += f"Against: {listed(against, _NAME_EM)}. " if against else ""
    text += "" if profile.classes else "No class has it. "
    text += f"{profile.n_images} images, active in {profile.share_active:.0%}"
    text += f", contrastiveness {profile.contrastiveness:.3f}. "
    if profile.nearest:
        near = profile.nearest[0]
        text += f"Nearest: feature {near.feature} (cosine {near.cosine:+.2f}). "
    if profile.attributes:
        best = profile.attributes[0]
        name = elided(printable(best.name), _NAME_EM)
        text += f"Best aligned: {name} ({best.alignment:+.2f})."
    return text.strip()
