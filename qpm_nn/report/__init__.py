"""The report of a run: one page that a browser shows without network or server."""

from qpm_nn.report.data import ReportSource, report_data
from qpm_nn.report.page import html_page

__all__ = ["ReportSource", "html_page", "report_data"]
