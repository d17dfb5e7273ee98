"""The defects of other projects that `tests/upstream` reports are still there, and do what the reports say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPORTS = sorted((Path(__file__).parent / "upstream").glob("*_*.md"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.stem)
def test_a_reported_defect_shows_as_the_report_says(report, tmp_path):
    program, printed = re.findall(r"```(?:python|text)\n(.*?)```", report.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == printed, f"is it mended, and our guard not needed any more?\n{done.stderr}"


def test_every_report_is_listed():
    readme = (Path(__file__).parent / "upstream" / "README.md").read_text(encoding="utf-8")
    assert [report.name for report in REPORTS] == sorted(set(re.findall(r"\]\((\w+\.md)\)", readme)))
