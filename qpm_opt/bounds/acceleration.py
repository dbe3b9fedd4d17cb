"""Whether compiled code can help the semidefinite bound: it is an optional extra."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qpm_opt.bounds.compilation import Compilation

logger = logging.getLogger(__name__)

_loops: ModuleType | None = None


def compiled_loops() -> ModuleType | None:
    """The module :mod:`qpm_opt.bounds.semidefinite_compiled`, None until its code is kept."""
    global _loops  # the code of a process comes once, and stays
    if _loops is None:
        try:
            from qpm_opt.bounds.compilation import SEMIDEFINITE, is_kept
        except (ImportError, OSError, RuntimeError):  # Numba, or a place for what it compiles
            return None
        if is_kept(SEMIDEFINITE):
            from qpm_opt.bounds import semidefinite_compiled

            _loops = semidefinite_compiled
    return _loops


def begin_compilation() -> Compilation | None:
    """Let another process compile, where that is possible and has not been done."""
    try:
        from qpm_opt.bounds.compilation import SEMIDEFINITE, Compilation, is_kept

        return None if is_kept(SEMIDEFINITE) else Compilation(SEMIDEFINITE)
    except (ImportError, OSError, RuntimeError) as missing:
        logger.info("The semidefinite bound goes without compiled code: %s", missing)
        return None
