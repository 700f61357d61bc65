"""The served page: a lake read-only in a browser, with no other service."""

from lakeinterp.web.app import make_app

__all__ = ["make_app"]
