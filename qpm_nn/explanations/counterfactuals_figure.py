"""Picture of a counterfactual: which features move, and how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qpm_nn.explanations.canvas import INK, MUTED, RULE, STYLE
from qpm_nn.explanations.counterfactuals import Counterfactual
from qpm_nn.explanations.lettering import elided, listed, printable
from qpm_nn.explanations.panel import GAP, NAME_SIZE, label_room, plain_axes, titled_panel

#: Most em of a class name or a list of them in a sentence.
_NAME_EM = 30.0
# Inches.
ROW, BARS, RIGHT, BELOW, MOST_LABEL = 0.34, 4.2, 0.35, 0.42, 3.0


@rc_context(STYLE)
def draw_counterfactual(
    found: Counterfactual, colours: Mapping[int, str], class_names: Sequence[str]
) -> Figure:
    """An arrow for each feature that changes, from its value in the image to the one it needs.

    Parameters
    ----------
    found : Counterfactual
    colours : mapping of int to str
        Of all features of the head, by :func:`feature_colours`.
    class_names : sequence of str
    """
    name = printable(found.class_name)
    labels = [f"feature {change.feature}" for change in found.changes]
    caption = _verdict(found, class_names)
    if labels:
        caption += (
            " Arrow: from the value in the image to the one needed; thin line: the range that the "
            "feature may take."
        )
    axes = titled_panel(
        f"What would make it {name}?",
        caption,
        label_room(labels, MOST_LABEL),
        BARS,
        ROW * max(1, len(labels)),
        right=RIGHT,
        below=BELOW if labels else 0.0,
    )
    if labels:
        _draw_arrows(axes, found, colours)
        axes.set_yticks(range(len(labels)), labels, fontsize=NAME_SIZE)
        axes.set_xlabel("standard deviations from the mean")
    else:
        axes.axis("off")
        reason = {True: "It is predicted already.", False: "Nothing does.", None: "Not known."}
        text = reason[found.is_reachable]
        axes.text(-GAP / BARS, 0.5, text, fontsize=NAME_SIZE, color=INK, va="center")
    return axes.figure


def _draw_arrows(axes: Axes, found: Counterfactual, colours: Mapping[int, str]) -> None:
    ends = [end for change in found.changes for end in (change.low, change.high)]
    low, high = min(ends), max(ends)
    room = 0.11 * (high - low) or 1.0
    axes.set(xlim=(low - room, high + room), ylim=(len(found.changes) - 0.5, -0.5))
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for i, change in enumerate(found.changes):
        colour = colours[change.feature]
        axes.plot([change.low, change.high], [i, i], color=RULE, linewidth=3, zorder=1)
        axes.annotate(
            "",
            (change.after, i),
            (change.before, i),
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour,
                "linewidth": 2.2,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            zorder=3,
        )
        axes.plot(change.before, i, "o", color=colour, markersize=5, zorder=3)
        rises = change.after > change.before
        for value, on_right in ((change.before, not rises), (change.after, rises)):
            axes.annotate(
                f"{value:+.2f}",
                (value, i),
                (3 if on_right else -3, 3),
                textcoords="offset points",
                ha="left" if on_right else "right",
                va="bottom",
                fontsize=NAME_SIZE - 1.5,
                color=MUTED,
                annotation_clip=False,
            )


def _verdict(found: Counterfactual, class_names: Sequence[str]) -> str:
    name, predicted = (
        elided(printable(text), _NAME_EM) for text in (found.class_name, found.predicted_name)
    )
    if found.is_reachable is None:
        return "The time was up before it was known whether any changes lead there."
    if not found.is_reachable:
        text = f"No values in the range of the features make {name} the prediction"
        blocking = [printable(class_names[c]) for c in found.blocking]
        text += f": {listed(blocking, _NAME_EM)} would stay ahead" if blocking else ""
        return text + "."
    if not found.changes:
        return f"{name} leads by {found.margin:.2f}."
    n = len(found.changes)
    proof = "fewer are proved not to suffice" if found.is_fewest else "fewer may suffice"
    c, p = found.class_index, found.predicted_index
    return (
        f"Instead of {predicted}: {n} change{'s' if n > 1 else ''}, {proof}. Logit of {name} "
        f"{found.logits_before[c]:+.2f} to {found.logits_after[c]:+.2f}, of {predicted} "
        f"{found.logits_before[p]:+.2f} to {found.logits_after[p]:+.2f}."
    )
