"""The page of a report."""

import re

from tests.support.report_runs import FIGURES


def test_page_needs_nothing_else(made):
    page = (made[0] / "report.html").read_text()
    assert "http" not in page and "<script" not in page and "<link" not in page and "url(" not in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == len(FIGURES) + 1 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    assert "DS-FL + cache (unfinished)" in page and "<table>" in page
