"""Damaged inputs are refused, each in one line: a sample of the corpus that `make torture` tries as a whole."""

import pytest

from tests import damage


def test_damaged_inputs_are_refused_in_one_line_and_no_code_in_them_is_run(tmp_path):
    tried = damage.try_all(tmp_path, share=0.01)
    assert set(tried) - {damage.HARMLESS} == {
        "inputs",
        "data set, plain",
        "data set, gzipped",
        "record",
        "table of records",
        "claims.yaml",
        "notebook",
    }
    assert tried["inputs"] > 400


def test_the_harness_notices_what_is_not_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("sound", encoding="utf-8")
    family = damage.Family("file", path, path.read_text, ValueError, path, [])
    with pytest.raises(damage.Broken, match="not noticed"):
        damage.outcome(family, "flipped", None)
    path.unlink()
    with pytest.raises(damage.Broken, match="FileNotFoundError"):
        damage.outcome(family, "gone", None)
