"""Picture of mistakes: which features were too strong or too weak."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qpm_nn.explanations.canvas import INK, MUTED, RULE, STYLE
from qpm_nn.explanations.lettering import elided, printable
from qpm_nn.explanations.mistakes import Confusion, Confusions, ConfusionTerm
from qpm_nn.explanations.panel import NAME_SIZE, plain_axes, titled_panel
from qpm_opt import InvalidInputError

#: Most features that are drawn of a pair of classes.
MOST_TERMS = 6
# Inches.
ROW, LEFT, BARS, RIGHT, BELOW = 0.25, 2.3, 3.8, 0.85, 0.42
_NAME_EM = 21.0


@rc_context(STYLE)
def draw_confusions(found: Confusions, colours: Mapping[int, str], max_pairs: int = 10) -> Figure:
    """Arrows from the usual value of each deciding feature to the one where classes are confused.

    Parameters
    ----------
    found : Confusions
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    max_pairs : int
        The most frequent mistakes are drawn.

    Raises
    ------
    InvalidInputError
        If ``max_pairs`` is not positive.
    """
    if max_pairs < 1:
        raise InvalidInputError(f"max_pairs is {max_pairs}; at least 1 was expected.")
    pairs = found.pairs[:max_pairs]
    shown = [(pair, _shown(pair)) for pair in pairs]
    n_rows = sum(1 + len(terms) for _, terms in shown) + 0.4 * max(0, len(shown) - 1)
    axes = titled_panel(
        f"{found.n_wrong} of {found.n_images} images are taken for another class",
        _caption(found, len(pairs)),
        LEFT,
        BARS,
        ROW * max(1.0, n_rows),
        right=RIGHT,
        below=BELOW if shown else 0.0,
    )
    if not shown:
        axes.axis("off")
        return axes.figure
    _scale(axes, [term for _, terms in shown for term in terms], n_rows)
    y, ticks, labels = 0.0, [], []
    for pair, terms in shown:
        _draw_header(axes, pair, y)
        for i, term in enumerate(terms, 1):
            _draw_term(axes, term, y + i, colours[term.feature])
            ticks.append(y + i)
            side = "for the mistake" if term.weight > 0 else "for the truth"
            labels.append(f"feature {term.feature}, {side}")
        y += len(terms) + 1.4
    axes.set_yticks(ticks, labels, fontsize=NAME_SIZE - 1)
    return axes.figure


def _shown(pair: Confusion) -> tuple[ConfusionTerm, ...]:
    """Terms in their order; those that moved least are left out if there are many."""
    if len(pair.terms) <= MOST_TERMS:
        return pair.terms

    def size(i: int) -> float:
        term = pair.terms[i]
        return -abs(term.contribution if term.push is None else term.push)

    kept = sorted(sorted(range(len(pair.terms)), key=size)[:MOST_TERMS])
    return tuple(pair.terms[i] for i in kept)


def _scale(axes: Axes, terms: list[ConfusionTerm], n_rows: float) -> None:
    values = [0.0] + [v for term in terms for v in (term.mean, term.usual) if v is not None]
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 1.0
    axes.set(xlim=(low - room, high + room), ylim=(n_rows - 0.4, -0.6))
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=RULE, linewidth=0.8, zorder=0)
    axes.set_xlabel("standard deviations from the mean of the feature")


def _draw_header(axes: Axes, pair: Confusion, y: float) -> None:
    true, predicted = (
        elided(printable(name), _NAME_EM) for name in (pair.true_name, pair.predicted_name)
    )
    n = pair.count
    text = f"{n} image{'s' if n > 1 else ''} of {true} taken for {predicted}"
    transform = axes.get_yaxis_transform()
    style = {"fontsize": NAME_SIZE, "fontweight": "bold", "va": "center", "color": INK}
    axes.text(-LEFT / BARS + 0.06, y, text, transform=transform, **style)


def _draw_term(axes: Axes, term: ConfusionTerm, y: float, colour: str) -> None:
    if term.usual is not None:
        axes.plot(term.usual, y, "o", markersize=5.5, color=colour, markerfacecolor="white")
        axes.annotate(
            "",
            (term.mean, y),
            (term.usual, y),
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1.6, "shrinkA": 2.7},
            zorder=1,
        )
    axes.plot(term.mean, y, "o", markersize=6.5, color=colour, zorder=3)
    axes.text(
        1.02,
        y,
        f"{term.contribution:+.2f}",
        transform=axes.get_yaxis_transform(),
        fontsize=NAME_SIZE - 1,
        color=MUTED,
        va="center",
    )


def _caption(found: Confusions, n_shown: int) -> str:
    if not found.pairs:
        return "There is no mistake to explain."
    text = ""
    if n_shown < len(found.pairs):
        text += f"The {n_shown} most frequent of {len(found.pairs)} pairs. "
    text += (
        "Circle: usual value, over images of the class that are recognised; dot: over those that "
        "are confused. Number: what the feature adds to the lead of the wrong class."
    )
    if found.share_differ_by_one is not None and found.share_of_pairs is not None:
        text += (
            f" {found.share_differ_by_one:.0%} of the mistakes are between classes that differ in "
            f"one feature, as are {found.share_of_pairs:.1%} of all pairs."
        )
    return text
