"""Pages about a run that a browser shows without network or server."""

from qpm_nn.report.explanations import explanation_page

__all__ = ["explanation_page"]
