"""The report of a run: one page that a browser shows without network or server."""

from qpm_nn.report.data import ReportSource, report_data
from qpm_nn.report.figures import DrawnFigure, image_figures, report_figures
from qpm_nn.report.page import html_page
from qpm_nn.report.studies import read_studies, study_files

__all__ = [
    "DrawnFigure",
    "ReportSource",
    "html_page",
    "image_figures",
    "read_studies",
    "report_data",
    "report_figures",
    "study_files",
]
