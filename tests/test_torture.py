"""The README's table of what was survived is made from the committed result of `make torture`."""

import json

from conftest import ROOT

from tests import torture


def test_the_readmes_table_is_that_of_the_committed_result():
    assert torture.table(json.loads(torture.RESULT.read_text())) in (ROOT / "README.md").read_text()
