"""Test results as one HTML page without outside parts. Called by :func:`mmdet.apis.write_report`."""
from .charts import Curve, line_chart
from .page import Bar, Card, ErrorSection, GainBar, Page, Score, render_page

__all__ = ['Bar', 'Card', 'Curve', 'ErrorSection', 'GainBar', 'Page', 'Score', 'line_chart', 'render_page']
