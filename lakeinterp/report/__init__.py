"""The report room: what people see of a lake, in the terminal, on a page and in files."""

from lakeinterp.report.output import write_result
from lakeinterp.report.page import write_page
from lakeinterp.report.status import status
from lakeinterp.report.summary import summary

__all__ = ["status", "summary", "write_page", "write_result"]
