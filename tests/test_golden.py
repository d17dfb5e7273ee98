"""Do the training's numbers still belong to the CPU's version in `TRAINING_VERSIONS` of study/record.py?

Each notebook trains a few steps in float64, where processors and orders of summation agree to many digits. A change of
the numbers beyond that calls for a higher version, so that no old record is taken for a new one; then
`python -m tests.test_golden` writes golden.json anew.
"""

import json
from pathlib import Path

import pytest
import torch

from common import ROOT
from common.parameters import AUGMENTATIONS
from study.record import TRAINING_VERSIONS

GOLDEN = Path(__file__).with_name("golden.json")
NOTEBOOKS = [*(f"figure_{number}" for number in range(2, 10)), "beyond"]
TINY = {"num_epochs": 3, "num_rounds": 1, "train_limit": 96, "batch_size": 40, "device": "cpu", "seed": 1}
VARIANTS = {name: {} for name in NOTEBOOKS} | {
    "beyond": {"num_hidden": [256, 128, 64, 32, 16], "augmentation": []},
    "figure_7, half dropped": {"dropout": 0.5},
    "figure_8, augmented": {"augmentation": list(AUGMENTATIONS), "dropout": 0.1},
    "figure_8, other norm": {"norm_axis": 2, "norm_after_relu": True, "patching": 1, "num_validation": 1000},
}


def history_of(variant):
    """Run a notebook's cells up to the training, in float64, and return the curves."""
    cells = json.loads((ROOT / "notebooks" / f"{variant.split(',')[0]}.ipynb").read_text(encoding="utf-8"))["cells"]
    namespace = {}
    for cell in cells:
        if cell["cell_type"] == "code" and "history" not in namespace:
            exec("".join(cell["source"]), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                namespace |= TINY | VARIANTS[variant]
            train_iter = namespace.get("train_iter")
            for batches in (train_iter, getattr(train_iter, "validation_iter", None), namespace.get("test_iter")):
                if batches is not None:
                    batches.images, batches.labels = batches.images[:500].double(), batches.labels[:500]
    return namespace["history"]


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64", "one_thread", "data_folder")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_numbers_of_a_training_are_those_of_the_training_version(variant):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["training_version"] == TRAINING_VERSIONS["cpu"], "run python -m tests.test_golden, and commit"
    expected = golden["histories"][variant]
    losses = [epoch["train_loss"] for epoch in history_of(variant)]
    assert losses == pytest.approx(expected, rel=1e-7, nan_ok=True), "the numbers changed: raise the version"


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    histories = {variant: [epoch["train_loss"] for epoch in history_of(variant)] for variant in VARIANTS}
    golden = {"training_version": TRAINING_VERSIONS["cpu"], "histories": histories}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
