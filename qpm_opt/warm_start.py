"""What a solution file brings into a new solve beside its assignment: the bound that it proves."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

from qpm_opt.bounds.proof import Proof
from qpm_opt.errors import InvalidSolutionError
from qpm_opt.files import read_solution
from qpm_opt.problem import Problem
from qpm_opt.proof_check import check_content
from qpm_opt.proof_file import read_proof
from qpm_opt.verification import certificate_path

logger = logging.getLogger(__name__)


class ProvedBound(NamedTuple):
    """A bound, where it comes from and what proves it."""

    value: float
    kind: str
    proof: Proof


def proved_bound(
    problem: Problem, path: str | os.PathLike[str], *, deadline: float = math.inf
) -> ProvedBound | None:
    """The bound of a solution file, proved again from its certificate.

    Parameters
    ----------
    problem : Problem
    path : path
        Solution file; its certificate lies beside it.
    deadline : float
        Value of ``time.perf_counter()`` at which to give up.

    Returns
    -------
    ProvedBound or None
        None, with a warning, if the certificate is missing or does not hold. None if there is none,
        or the solution is one of other data.

    Raises
    ------
    InvalidSolutionError
        If the solution file cannot be read.
    UnfinishedCheckError
        If the deadline is reached first.
    """
    record = read_solution(path)
    if record.get("problem_sha256") != problem.sha256:
        return None
    try:
        certificate = certificate_path(record, Path(path).resolve().parent)
        if certificate is None:
            return None
        content = read_proof(certificate)
        report = check_content(problem, content, deadline=deadline)
    except InvalidSolutionError as failure:
        logger.warning("The bound of %s is not used: %s", path, failure)
        return None
    return ProvedBound(report.bound, str(record.get("bound_kind")), Proof.of(content))
