"""The table of records: reading and merging it to the byte, growing, selecting from it, and as others open it."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
from conftest import CHANGED, DEFAULTS, ROOT, made_up_bits, made_up_record, names_in, without
from hypothesis import given, settings
from hypothesis import strategies as st

from common.parameters import PARAMETERS
from study import table
from study.record import IN_EVERY_RECORD, TRAINING_VERSIONS, recognised, record_key, to_line
from study.table import TABLE, GrowingTable, merge, read_records, select

COMMITTED = ROOT / "figures" / TABLE


def record(seed=0, accuracy=0.5, **changes):
    """Build the record of a run of the default setting, but for the parameters among the changes."""
    return made_up_record({**DEFAULTS, **changes}, seed, accuracy)


def write_lines(path, *lines):
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_table(path, *records):
    return write_lines(path, *map(to_line, records))


# Reading


def test_an_absent_file_has_no_records(tmp_path):
    assert read_records(tmp_path / "none.jsonl") == []


def test_an_empty_file_is_damaged(tmp_path):
    with pytest.raises(ValueError, match="line 1, is damaged"):
        read_records(write_lines(tmp_path / "empty.jsonl"))


def test_records_are_read_line_by_line(tmp_path):
    assert read_records(write_table(tmp_path / "r.jsonl", record(3), record(1))) == [record(3), record(1)]


DAMAGED = {  # as the second line after the record of seed 0
    "cut off": to_line(record(1))[:-20],
    "empty": "\n",
    "no JSON": "seed 1: 0.5\n",
    "a list": "[1, 2]\n",
    "null": "null\n",
    "a number": "0.5\n",
    "a text": '"record"\n',
    "no text": b"\xff\n",
    "another digit": to_line(record(1)).replace("0.5", "0.6", 1),
    "without its checksum": json.dumps(record(1)) + "\n",
    "there twice": to_line(record(0)),
    "another record of the same run": to_line(record(0, 0.6)),
    "epochs in words": to_line({**record(1), "num_epochs": "ten"}),
    "a record of before the table": to_line({"notebook": "figure_4", "seed": 1, "test_accuracy": 0.5, "history": []}),
    **{f"no {name}": to_line(without(record(1), name)) for name in (*IN_EVERY_RECORD, "device", "data")},
}


ACCURACIES = ("train_accuracies", "test_accuracies", "validation_accuracies")
SENSELESS = [  # changes of a sound record of two epochs, and what is said of it
    ({"num_epochs": 3}, "num_epochs is 3, and train_losses has 2 values"),
    ({"test_accuracies": [0.5]}, "num_epochs is 2, and test_accuracies has 1 values"),
    *[
        ({name: [0.5, value]}, f"{name} has {value!r}")
        for name in ACCURACIES
        for value in (-0.1, 1.1, None, "0.5", True, 0.123456789, [])
    ],
    *[({"train_losses": [1.0, value]}, f"train_losses has {value!r}") for value in (-0.1, "1", True, [])],
    ({"test_accuracy": 0.6}, "test_accuracy is 0.6, and test_accuracies ends with 0.5"),
    ({"test_accuracies": [0.5, 0.6]}, "test_accuracy is 0.5, and test_accuracies ends with 0.6"),
    ({"test_accuracy": 0.6, "test_accuracies": [0.5, 0.6]}, "test_accuracy is 0.6, and correct counts 5000 images"),
    ({"correct": "AA=="}, "correct is of 8 images"),
    (
        {"num_validation": 0},
        "num_validation is 0, and its curves are train_losses, train_accuracies, test_",
    ),
    ({"device": "cuda:1"}, "device is cuda:1"),
    ({"threads": 0}, "threads is 0"),
    ({"training_version": -1}, "training_version is -1"),
    ({"training_version": "2"}, "training_version is '2'"),
    ({"processor": None}, "processor is None"),
    ({"python": 4}, "python is 4"),
]


@pytest.mark.parametrize(("changes", "said"), SENSELESS)
def test_a_record_that_contradicts_itself_is_refused_though_its_checksum_is_right(tmp_path, changes, said):
    sound = made_up_record({**DEFAULTS, "num_epochs": 2, "num_validation": 100})
    path = write_table(tmp_path / "runs.jsonl", record(1), {**sound, **changes})
    refused = refusal_of(read_records, path)
    assert refused.startswith(f"{path}, line 2, makes no sense: {said}")
    assert refused.endswith("; restore the file, or delete the line and run again")


@pytest.mark.parametrize("name", record(0))
def test_nonsense_in_any_place_is_refused_though_the_checksum_is_right(tmp_path, name):
    nonsense = [record(0) | {name: value} for value in (None, {}, -1, [None])]
    for changed in (without(record(0), name), *nonsense):
        path = write_table(tmp_path / "runs.jsonl", changed)
        assert f"{path}, line 1, " in refusal_of(read_records, path)


shares = st.integers(0, 10000).map(lambda number: number / 10000)
losses = st.none() | st.floats(0, 1e300)


@given(st.lists(st.tuples(losses, shares, shares), min_size=1, max_size=5), st.data())
@settings(max_examples=40, deadline=None)
def test_any_sound_curves_are_read_back_and_none_of_which_a_single_number_is_another(curves, data):
    train_losses, train_accuracies, test_accuracies = map(list, zip(*curves, strict=True))
    setting = {**DEFAULTS, "num_epochs": len(curves)}
    sound = made_up_record(setting, 0, test_accuracies[-1]) | {
        "train_losses": train_losses,
        "train_accuracies": train_accuracies,
        "test_accuracies": test_accuracies,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder) / "runs.jsonl", sound)
        assert read_records(path) == [sound]
        last = test_accuracies[-1]
        changes = [
            {"test_accuracy": data.draw(shares.filter(lambda other: other != last))},
            {"test_accuracies": [*test_accuracies[:-1], data.draw(shares.filter(lambda other: other != last))]},
            {"correct": made_up_bits(data.draw(st.integers(0, 10000).filter(lambda n: n / 10000 != last)))},
            {"num_epochs": data.draw(st.integers(1, 10).filter(lambda n: n != len(curves)))},
            {"train_losses": [*train_losses, 1.0]},
        ]
        for change in changes:
            write_table(path, sound | change)
            assert f"{path}, line 1, makes no sense" in refusal_of(read_records, path)


@pytest.fixture
def damaged_tables(tmp_path):
    """Write tables with each kind of damage in line 2; return their paths, whose folders name the damage."""
    paths = []
    for damage, line in DAMAGED.items():
        paths.append(tmp_path / damage / "runs.jsonl")
        paths[-1].parent.mkdir()
        lines = [to_line(record(0)), line, to_line(record(2))]
        paths[-1].write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return paths


def refusal_of(function, path, *arguments):
    """Return the one line with which a function refuses a damaged table."""
    message = f"{path} is accepted"
    try:
        function(path, *arguments)
    except ValueError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return message


def test_a_damaged_line_is_refused_in_a_line_that_names_file_and_line(damaged_tables):
    for path in damaged_tables:
        assert f"{path}, line 2, is damaged" in refusal_of(read_records, path)


def test_a_file_named_after_another_run_is_refused(tmp_path):
    path = write_table(tmp_path / f"{record_key(record(1))}.json", record(1))
    assert read_records(path) == [record(1)]
    path = write_table(tmp_path / f"{record_key(record(2))}.json", record(1))
    assert f"{path}, line 1, is damaged" in refusal_of(read_records, path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert f"{tmp_path} can't be read" in refusal_of(read_records, tmp_path)


# Merging


def test_merging_into_an_absent_table_makes_it(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert merge(path, [record(1), record(0)]) == [record(0), record(1)]
    assert read_records(path) == [record(0), record(1)]
    assert names_in(tmp_path) == ["runs.jsonl"]


def test_a_merged_table_is_sorted_by_notebook_then_setting_then_seed_as_a_number(tmp_path):
    path = write_table(tmp_path / "runs.jsonl", record(10), record(9))
    later = {**record(0), "notebook": "figure_9", "batch_size": 32}
    merged = merge(path, [later, record(3, learning_rate=0.2), record(100), record(2)])
    assert merged == [record(2), record(9), record(10), record(100), record(3, learning_rate=0.2), later]
    assert read_records(path) == merged


def test_the_new_record_of_a_run_replaces_the_old_one(tmp_path):
    path = write_table(tmp_path / "runs.jsonl", record(0, 0.1), record(1, 0.2))
    assert merge(path, [record(1, 0.3)]) == [record(0, 0.1), record(1, 0.3)]


def test_a_run_counts_once_whichever_notebook_ran_it(tmp_path):
    path = write_table(tmp_path / "runs.jsonl", record(0, 0.1))
    new = {**record(0, 0.2), "notebook": "figure_5"}
    assert merge(path, [new]) == [new]


def test_the_same_run_on_another_kind_of_processor_stays_beside_it(tmp_path):
    path = write_table(tmp_path / "runs.jsonl", record(0))
    other = record(0, 0.6) | {"processor": "another"}
    assert merge(path, [other]) == [other, record(0)] == read_records(path)


def test_runs_of_other_settings_stay_in_the_table(tmp_path):
    for name, value in CHANGED.items():
        path = write_table(tmp_path / f"{name}.jsonl", record())
        other = made_up_record({**DEFAULTS, name: value}, seed=value if name == "seed" else 0)
        merged = merge(path, [other])
        assert len(merged) == 2, name
        assert record() in merged
        assert other in merged


def test_records_of_an_older_training_version_stay_in_the_table_beside_newer_ones(tmp_path):
    older = {**record(0), "training_version": TRAINING_VERSIONS["cpu"] - 1}
    path = write_table(tmp_path / "runs.jsonl", older, record(1))
    merged = merge(path, [record(0)])
    assert merged == read_records(path)
    assert sorted(map(to_line, merged)) == sorted(map(to_line, [older, record(0), record(1)]))


def test_a_damaged_table_is_refused_and_kept_as_it_is(damaged_tables):
    for path in damaged_tables:
        before = path.read_bytes()
        assert f"{path}, line 2, is damaged" in refusal_of(merge, path, [record(3)])
        assert path.read_bytes() == before
        assert names_in(path.parent) == [path.name]


def fail(*_):
    raise OSError("disk full")


def test_a_merge_that_fails_leaves_the_old_table(tmp_path, monkeypatch):
    path = write_table(tmp_path / "runs.jsonl", record(0))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        merge(path, [record(1)])
    assert read_records(path) == [record(0)]
    assert names_in(tmp_path) == ["runs.jsonl"]


runs = st.builds(
    lambda changes, seed, device: {**record(seed, **changes), "device": device},
    st.fixed_dictionaries({"learning_rate": st.sampled_from([0.1, 0.2]), "batch_size": st.sampled_from([32, 128])}),
    st.integers(0, 3),
    st.sampled_from(["cpu", "cuda"]),
)


@given(st.lists(runs, min_size=1, max_size=8, unique_by=record_key), st.data())
@settings(max_examples=25, deadline=None)
def test_the_table_is_the_same_to_the_byte_in_whatever_order_and_parts_records_come(records, data):
    order = data.draw(st.permutations(records))
    first_part = order[: data.draw(st.integers(0, len(order)))]
    with tempfile.TemporaryDirectory() as folder:
        at_once, in_parts = Path(folder) / "at_once.jsonl", Path(folder) / "in_parts.jsonl"
        merge(at_once, records)
        merge(in_parts, first_part)
        merge(in_parts, order)
        assert in_parts.read_bytes() == at_once.read_bytes()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), st.lists(st.integers(0, 30), max_size=8))
@settings(max_examples=25, deadline=None)
def test_merging_again_changes_no_byte(old, new):
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder) / "runs.jsonl", *(record(seed, 0.1) for seed in old))
        fresh = [record(seed, 0.2) for seed in new]
        merged = merge(path, fresh)
        content = path.read_bytes()
        accuracies = {record["seed"]: record["test_accuracy"] for record in merged}
        assert list(accuracies) == sorted({*old, *new})
        assert accuracies == {**dict.fromkeys(old, 0.1), **dict.fromkeys(new, 0.2)}
        assert read_records(path) == merged
        assert not content or content.endswith(b"}\n")
        assert merge(path, fresh) == merged
        assert merge(path, []) == merged
        assert path.read_bytes() == content


# Growing


@pytest.fixture
def clock(monkeypatch):
    """Let time stand still but for what a test adds, and the seconds that the writing of a table takes."""
    clock = SimpleNamespace(now=100.0, a_write=0.0, monotonic=lambda: clock.now)
    write = table.write_at_once

    def write_slowly(*arguments):
        clock.now += clock.a_write
        write(*arguments)

    monkeypatch.setattr(table, "time", clock)
    monkeypatch.setattr(table, "write_at_once", write_slowly)
    return clock


def test_a_table_grows_at_once_while_that_costs_little(tmp_path, clock):
    path = tmp_path / "runs.jsonl"
    growing = GrowingTable(path)
    for seed in range(3):
        clock.now += 0.01
        growing.add([record(seed)])
        assert read_records(path) == [record(earlier) for earlier in range(seed + 1)]


def test_a_table_that_is_slow_to_write_waits_and_loses_nothing(tmp_path, clock):
    path = tmp_path / "runs.jsonl"
    growing = GrowingTable(path)
    clock.a_write = 3.0
    clock.now += 1
    growing.add([record(0)])
    assert read_records(path) == [record(0)]
    growing.add([record(1)])
    clock.now += 60  # 20 times what a write takes, and no more
    growing.add([record(2)])
    assert read_records(path) == [record(0)]
    clock.now += 1
    growing.add([record(3)])
    assert read_records(path) == [record(seed) for seed in range(4)]
    growing.add([record(4), record(5)])
    assert len(read_records(path)) == 4
    growing.write()
    assert read_records(path) == [record(seed) for seed in range(6)]


def test_a_growing_table_keeps_what_is_in_it_already(tmp_path):
    path = write_table(tmp_path / "runs.jsonl", record(5))
    GrowingTable(path).add([])
    assert read_records(path) == [record(5)]


def test_a_table_that_could_not_be_written_has_its_records_at_the_next_try(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    growing = GrowingTable(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            growing.add([record(0)])
    growing.add([record(1)])
    assert read_records(path) == [record(0), record(1)]


# Selecting


def rising(seed, num_epochs):
    """Build the record of a run that is at 0.01 after the first epoch, at 0.02 after the second, and so on."""
    accuracies = [epoch / 100 for epoch in range(1, num_epochs + 1)]
    setting = {**DEFAULTS, "num_epochs": num_epochs}
    return made_up_record(setting, seed, accuracies[-1], test_accuracies=accuracies)


def test_a_settings_records_are_selected_one_a_seed_sorted_by_seed():
    records = [record(10), record(2, learning_rate=0.2), record(9), record(0)]
    assert select(records, DEFAULTS) == [record(0), record(9), record(10)]
    assert select([], DEFAULTS) == []


def test_seed_folder_device_rounds_and_writing_of_a_number_make_no_other_setting():
    same = {"seed": 7, "runs_folder": "elsewhere", "device": "cuda", "num_rounds": 5, "weight_decay": 0}
    assert select([record(0)], {**DEFAULTS, **same}) == [record(0)]


def test_records_of_another_setting_are_not_selected():
    for name, value in without(CHANGED, "seed", "num_epochs").items():
        records = [record(0), record(1, **{name: value})]
        assert select(records, DEFAULTS) == records[:1], name
        assert select(records, {**DEFAULTS, name: value}) == records[1:], name


def test_of_a_run_by_several_training_versions_the_newest_is_selected():
    older = [{**record(seed), "training_version": TRAINING_VERSIONS["cpu"] - 1} for seed in (0, 1)]
    for records in ([*older, record(1)], [record(1), *older]):
        assert select(records, DEFAULTS) == [older[0], record(1)]


def test_records_of_other_data_are_not_selected():
    assert select([{**record(0), "data": "another"}, record(1)], DEFAULTS) == [record(1)]


def test_a_longer_run_counts_with_its_first_epochs_and_no_longer_says_which_images_were_recognised():
    assert select([rising(0, 40)], DEFAULTS) == [without(rising(0, 10), "correct")]


def test_a_shorter_run_does_not_count():
    assert select([rising(0, 9)], DEFAULTS) == []


def test_the_validation_accuracies_of_a_longer_run_are_cut_as_well():
    long = {**rising(0, 20), "num_validation": 10, "validation_accuracies": [epoch / 20 for epoch in range(20)]}
    (cut,) = select([long], {**DEFAULTS, "num_validation": 10})
    assert cut["validation_accuracies"] == long["validation_accuracies"][:10]


@given(st.permutations([5, 10, 15, 40]), st.integers(1, 50))
@settings(deadline=None)
def test_the_settings_own_run_is_preferred_and_else_a_longer_one_is_cut(lengths, num_epochs):
    selected = select([rising(0, length) for length in lengths], {**DEFAULTS, "num_epochs": num_epochs})
    own = rising(0, num_epochs)
    expected = [own] if num_epochs in lengths else [without(own, "correct")] if num_epochs < 40 else []
    assert selected == expected


# The committed table, and the table for others


@pytest.fixture(scope="module")
def committed():
    """Read the committed table as pandas does; not to be changed."""
    return pandas.read_json(COMMITTED, lines=True)


def test_merging_nothing_into_the_committed_table_changes_no_byte(tmp_path):
    path = shutil.copy(COMMITTED, tmp_path / TABLE)
    assert merge(path, []) == read_records(COMMITTED)
    assert path.read_bytes() == COMMITTED.read_bytes()


def test_the_committed_table_opens_with_pandas_one_row_a_run_one_column_a_parameter(committed):
    records = read_records(COMMITTED)
    assert len(committed) == len(records) >= 24
    assert set(committed.columns) == {name for record in records for name in record} | {"checksum"}
    for name in IN_EVERY_RECORD:
        expected = [record[name] for record in records]
        is_real = PARAMETERS[name].type is float
        assert committed[name].tolist() == (pytest.approx(expected) if is_real else expected), name


def test_curves_explode_into_one_row_an_epoch(tmp_path):
    held_out = made_up_record(
        {**DEFAULTS, "num_epochs": 3, "num_validation": 10}, validation_accuracies=[0.1, 0.2, 0.3]
    )
    merge(tmp_path / "runs.jsonl", [rising(0, 4), held_out])
    frame = pandas.read_json(tmp_path / "runs.jsonl", lines=True)
    epochs = frame.explode(["train_losses", "train_accuracies", "test_accuracies"])
    assert epochs.groupby("num_epochs").size().to_dict() == {3: 3, 4: 4}
    assert epochs[epochs.num_epochs == 4].test_accuracies.tolist() == pytest.approx([0.01, 0.02, 0.03, 0.04])
    validated = frame[frame.num_validation > 0].explode("validation_accuracies")
    assert validated.validation_accuracies.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_the_curves_of_every_committed_run_end_at_its_accuracy_and_have_its_epochs(committed):
    epochs = committed.explode(["train_losses", "train_accuracies", "test_accuracies"])
    assert epochs.groupby(level=0).size().tolist() == committed.num_epochs.tolist()
    assert epochs.groupby(level=0).test_accuracies.last().tolist() == committed.test_accuracy.tolist()


def test_every_committed_run_recognised_as_many_images_as_its_accuracy_says():
    for record in read_records(COMMITTED):
        assert recognised(record).sum() / 10000 == record["test_accuracy"]
