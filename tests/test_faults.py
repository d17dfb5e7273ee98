"""A batch under faults: a sample of the faults and kills that `make torture` goes through as a whole."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

SHORT = """
import json
from tests import faults
with faults.scratch() as folder:
    print(json.dumps(faults.{call}))
"""


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("fail_at_every_step(folder, share=0.03)", "faults"),
        ("kill_at_random(folder, num_kills=5, num_seeds=2)", "kills"),
    ],
    ids=["a-step-that-fails", "processes-killed"],
)
def test_no_fault_loses_a_record_or_changes_a_byte_of_the_end(call, expected):
    code = SHORT.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[expected] >= 5


def test_the_harness_notices_a_file_that_is_not_whole_and_a_record_that_is_lost(tmp_path):
    from tests import faults

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "seed0.json").write_bytes(b"hal")
    with pytest.raises(faults.Broken, match="none of the expected files"):
        faults.check(tmp_path, [{"seed0.json": b"half"}], {})
    with pytest.raises(faults.Broken, match="lost or changed"):
        faults.check(tmp_path, [{"seed0.json": b"hal"}], {"seed1.json": b"whole"})
