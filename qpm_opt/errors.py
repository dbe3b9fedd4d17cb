"""Exceptions: every error that a user can cause or meet is a :class:`QPMError`.

Each class is also the standard exception that fits, so callers may catch either. A message says
what was given, what was expected and what to do. Limits reached, infeasibility and weak bounds are
results, not exceptions.
"""

import difflib
from collections.abc import Iterable


class QPMError(Exception):
    """Base of all errors raised on purpose by the packages of this project."""


class InvalidInputError(QPMError, ValueError):
    """Something handed in is unusable: an option, a file, an array."""


class InvalidProblemError(InvalidInputError):
    """The data of a :class:`~qpm_opt.Problem` contradict themselves or its definition."""


class InvalidFeaturesError(InvalidInputError):
    """Features, labels or localities from which no problem can be built."""


class InvalidSolutionError(InvalidInputError):
    """A solution file that cannot be read or does not belong to the problem."""


class SolverNotAvailableError(QPMError, ImportError):
    """The solver's package is missing or does not load."""


class SolverLicenseError(QPMError, RuntimeError):
    """The solver refuses the model for want of a (larger) licence."""


class UnsupportedFormulationError(QPMError, NotImplementedError):
    """The solver cannot express the model; the message names one that can."""


class SolverError(QPMError, RuntimeError):
    """The solver, or the process it ran in, failed."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> InvalidInputError:
    """Error for a name that is not registered; it lists the names and those that come near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return InvalidInputError(f"There is no {what} {name!r}{hint}; known are {', '.join(names)}.")
