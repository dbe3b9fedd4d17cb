"""What a person demands of a solution: features in or out, for all or for some of the classes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from qpm_opt.errors import InvalidInputError
from qpm_opt.problem import Problem

#: Every demand that two classes differ in a feature is two cases; 16 cases are solved at most.
MOST_DIFFERENT = 4

_LENGTHS = {"required": 1, "forbidden": 1, "required_for": 2, "forbidden_for": 2, "different": 3}


class ContradictionError(InvalidInputError):
    """Demands that no solution can meet, whatever the constants are."""


@dataclass(frozen=True)
class Demands:
    """Demands on a selection of features and their assignment to classes.

    Parameters
    ----------
    required, forbidden : sequence of int
        Features that are (not) selected.
    required_for, forbidden_for : sequence of (int, int)
        Classes and features that are (not) assigned to them.
    different : sequence of (int, int, int)
        Two classes and a feature that exactly one of them has.

    Raises
    ------
    InvalidInputError
        If these are no whole numbers.
    """

    required: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()
    required_for: tuple[tuple[int, int], ...] = ()
    forbidden_for: tuple[tuple[int, int], ...] = ()
    different: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        for name, length in _LENGTHS.items():
            rows = [_whole_numbers(name, entry, length) for entry in _listed(name, self)]
            if name == "different":
                rows = [(min(c, e), max(c, e), d) for c, e, d in rows]
            entries = sorted(set(rows))
            object.__setattr__(
                self, name, tuple(row[0] for row in entries) if length == 1 else tuple(entries)
            )

    def __bool__(self) -> bool:
        return any(getattr(self, entry.name) for entry in fields(self))

    def to_dict(self) -> dict[str, list[Any]]:
        """Lists by name, for JSON."""
        return {
            name: [list(entry) if isinstance(entry, tuple) else entry for entry in entries]
            for name, entries in asdict(self).items()
        }

    @property
    def needed(self) -> frozenset[int]:
        """Features that have to be selected."""
        of_classes = {entry[-1] for entry in (*self.required_for, *self.different)}
        return frozenset(of_classes.union(self.required))

    def check(self, problem: Problem, class_name: Callable[[int], str] = "class {}".format) -> None:
        """Refuse demands that name what is not there, or that contradict each other or the sizes.

        What passes may still be more than the other constraints admit.

        Parameters
        ----------
        problem : Problem
        class_name : callable, optional
            What a class is called in a sentence.

        Raises
        ------
        InvalidInputError
            If a class or feature does not exist.
        ContradictionError
            If no solution can meet the demands.
        """
        self._check_names(problem)
        if len(self.different) > MOST_DIFFERENT:
            raise InvalidInputError(
                f"{len(self.different)} pairs of classes are to differ in a feature; at most "
                f"{MOST_DIFFERENT} such demands are taken at a time."
            )
        p, k = problem.n_selected, problem.n_per_class
        forbidden = set(self.forbidden)
        for d in self.required:
            if d in forbidden:
                raise ContradictionError(
                    f"Feature {d} is both required and forbidden; leave one of the two out."
                )
        for c, d in self.required_for:
            if d in forbidden:
                raise ContradictionError(
                    f"Feature {d} is required for {class_name(c)} and forbidden; leave one of the "
                    "two out."
                )
            if (c, d) in self.forbidden_for:
                raise ContradictionError(
                    f"Feature {d} is both required and forbidden for {class_name(c)}; leave one of "
                    "the two out."
                )
        for c, e, d in self.different:
            pair = f"{class_name(c)} and {class_name(e)}"
            if c == e:
                raise ContradictionError(
                    f"{class_name(c)} is to differ from itself in feature {d}; give two classes."
                )
            required, without = (
                [(i, d) in entries for i in (c, e)]
                for entries in (self.required_for, self.forbidden_for)
            )
            if d in forbidden or all(required) or all(without):
                why = "both are to have it" if all(required) else "neither may have it"
                raise ContradictionError(
                    f"{pair} are to differ in feature {d}, but {why}; leave a demand out."
                )
        if len(self.needed) > p:
            raise ContradictionError(
                f"{len(self.needed)} features are required, but n_selected is {p}; require fewer."
            )
        left = problem.candidates.copy()
        left[list(forbidden)] = False
        if left.sum() < p:
            raise ContradictionError(
                f"Without the forbidden features there are {left.sum()} candidates left, but "
                f"n_selected is {p}; forbid fewer."
            )
        for c in sorted({c for c, _ in (*self.required_for, *self.forbidden_for)}):
            own = [d for i, d in self.required_for if i == c]
            if len(own) > k:
                raise ContradictionError(
                    f"{len(own)} features are required for {class_name(c)}, but n_per_class is "
                    f"{k}; require fewer."
                )
            barred = left[[d for i, d in self.forbidden_for if i == c]].sum()
            if left.sum() - barred < k:
                raise ContradictionError(
                    f"{class_name(c)} may have {left.sum() - barred} of the candidate features, "
                    f"but n_per_class is {k}; forbid fewer for it."
                )

    def _check_names(self, problem: Problem) -> None:
        features = [*self.required, *self.forbidden]
        classes = []
        for *some, d in (*self.required_for, *self.forbidden_for, *self.different):
            classes += some
            features.append(d)
        for what, n, given in (
            ("feature", problem.n_features, features),
            ("class", problem.n_classes, classes),
        ):
            for i in given:
                if not 0 <= i < n:
                    span = f"from 0 to {n - 1}" if n else "none at all"
                    raise InvalidInputError(f"There is no {what} {i}; there are {span}.")
        for d in sorted(self.needed):
            if not problem.candidates[d]:
                raise ContradictionError(
                    f"Feature {d} is required, but it is no candidate: it does not vary, or was "
                    "excluded when the problem was made."
                )

    def cases(self, problem: Problem) -> Iterator[Demands]:
        """Demands without ``different`` that together stand for these; contradictory ones go.

        A solution meets these demands if and only if it meets those of exactly one case.
        """
        plain = replace(self, different=())
        for having in itertools.product((0, 1), repeat=len(self.different)):
            pairs = [(entry[i], entry[1 - i], entry[2]) for entry, i in zip(
                self.different, having, strict=True
            )]  # fmt: skip
            case = replace(
                plain,
                required_for=(*self.required_for, *((c, d) for c, _, d in pairs)),
                forbidden_for=(*self.forbidden_for, *((e, d) for _, e, d in pairs)),
            )
            try:
                case.check(problem)
            except ContradictionError:
                continue
            yield case

    def unmet(
        self,
        selection: Iterable[int],
        classes: Sequence[Iterable[int]],
        class_name: Callable[[int], str] = "class {}".format,
    ) -> tuple[str, ...]:
        """One sentence for every demand that a solution does not meet.

        From the index lists of a solution file alone; independent of everything that solves.

        Parameters
        ----------
        selection : iterable of int
            Selected features.
        classes : sequence of iterables of int
            Features of each class.
        class_name : callable, optional
            What a class is called in a sentence.
        """
        chosen, rows = set(selection), [set(row) for row in classes]
        found = [f"feature {d} is required but not selected." for d in self.required
                 if d not in chosen]  # fmt: skip
        found += [f"feature {d} is forbidden but selected." for d in self.forbidden if d in chosen]
        found += [f"feature {d} is required for {class_name(c)}, which does not have it."
                  for c, d in self.required_for if d not in rows[c]]  # fmt: skip
        found += [f"feature {d} is forbidden for {class_name(c)}, which has it."
                  for c, d in self.forbidden_for if d in rows[c]]  # fmt: skip
        found += [
            f"{class_name(c)} and {class_name(e)} are to differ in feature {d}, which "
            f"{'both have' if d in rows[c] else 'neither has'}."
            for c, e, d in self.different
            if (d in rows[c]) == (d in rows[e])
        ]
        return tuple(found)


def _listed(name: str, demands: Demands) -> list[Any]:
    given = getattr(demands, name)
    try:
        return list(given)
    except TypeError:
        raise InvalidInputError(f"{name} is {given!r}; a sequence was expected.") from None


def _whole_numbers(name: str, entry: Any, length: int) -> tuple[int, ...]:
    """An entry as so many whole numbers."""
    try:
        row = [entry] if length == 1 else list(entry)
    except TypeError:
        row = []
    whole = all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in row)
    if len(row) != length or not whole:
        wanted = {1: "a feature", 2: "(class, feature)", 3: "(class, class, feature)"}[length]
        raise InvalidInputError(
            f"{name} holds {entry!r}; {wanted} by whole numbers from 0 on was expected."
        )
    return tuple(int(i) for i in row)
