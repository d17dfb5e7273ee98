"""The table of records, one a line: read it, merge new records into it, select those of a setting from it."""

import json
import time

from common import fashion_mnist
from common.errors import UserError
from common.files import write_at_once
from common.parameters import IMPLIED, check_parameters
from study.record import COLUMNS, IN_EVERY_RECORD, IN_KEY, determinants, flaw_of, made_on, record_key, to_line

TABLE = "runs.jsonl"  # in a folder of figures: every record


def read_records(path):
    """Read a file of records, one a line, without their checksums; an absent file has none.

    Raises:
        ValueError: the file can't be read, or a line is not what writing its record gives, byte for byte, or is there
            twice, or is the record of another run than the file's name says, or contradicts itself.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): expected a file of records; delete it") from None
    records = {}
    for number, line in enumerate(lines or [b""], 1):
        try:
            record = json.loads(line)
            check_parameters({name: record[name] for name in IN_EVERY_RECORD} | record)
            del record["checksum"]
            key = record_key(record)
            execution = key, made_on(record)
            sound = to_line(record).encode() == line and (path.suffix == ".jsonl" or path.stem == key)
            sound = sound and execution not in records
            flaw = flaw_of(record)
        except (ValueError, KeyError, IndexError, TypeError, ArithmeticError, RecursionError):
            sound = False
        if not sound:
            raise UserError(
                f"{path}, line {number}, is damaged: expected the record of a run with its checksum, once; "
                "restore the file, or delete the line and run again"
            )
        if flaw:
            raise UserError(
                f"{path}, line {number}, makes no sense: {flaw}; restore the file, or delete the line and run again"
            )
        records[execution] = record
    return list(records.values())


def merge(path, new):
    """Merge new records into a table of records, sorted by setting and seed, and return them all.

    A new record replaces the old one of the same run on the same kind of processor. Those of older versions of the
    training code stay.
    """
    merged = {(record_key(record), made_on(record)): record for record in [*read_records(path), *new]}
    records = sorted(
        merged.values(),
        key=lambda r: (r["notebook"], *_sortable(r), r["seed"], record_key(r), made_on(r)),
    )
    if records:
        write_at_once(path, "".join(map(to_line, records)))
    return records


class GrowingTable:
    """A table to which records are added one by one; it is written anew as soon as that costs little.

    A large table takes long to write. What is not in it yet is in the folder of runs.
    """

    def __init__(self, path):
        self.path = path
        self.waiting = []
        self.written, self.writing = time.monotonic(), 0.0  # when it was written last, and the seconds that took

    def add(self, records):
        self.waiting += records
        if time.monotonic() - self.written > 20 * self.writing:
            self.write()

    def write(self):
        started = time.monotonic()
        merge(self.path, self.waiting)
        self.waiting, self.written = [], time.monotonic()
        self.writing = self.written - started


def _sortable(record):
    return [json.dumps(value) for name, value in determinants(record).items() if name != "seed"]


def select(records, parameters):
    """Pick the records of a setting, one a seed, sorted by seed; parameters as those of a run, whatever the seed.

    A longer run counts as well, if it `can_be_cut` to its first epochs, where the setting's own was not run; it then
    no longer says which images were recognised. Of the same run by several versions of the training code the newest
    counts, whose random numbers may be others, but whose experiment is the same.
    """
    setting, num_epochs = determinants(parameters), parameters["num_epochs"]
    cuttable = can_be_cut(parameters)
    names = [name for name in IN_KEY if name not in ("seed", "num_epochs")]
    by_seed = {}
    for record in sorted(records, key=lambda record: (record["training_version"], -record["num_epochs"])):
        if all(record.get(name) == setting.get(name) for name in names):
            fits = record["num_epochs"] >= num_epochs if cuttable else record["num_epochs"] == num_epochs
            if fits and record["data"] == fashion_mnist.CHECKSUM:
                by_seed[record["seed"]] = _first_epochs(record, num_epochs)
    return [by_seed[seed] for seed in sorted(by_seed)]


def can_be_cut(parameters):
    """Say whether a run is the beginning of longer ones: not if its learning rate depends on the number of epochs."""
    return (IMPLIED | parameters)["schedule"] == "constant"


def _first_epochs(record, num_epochs):
    if record["num_epochs"] == num_epochs:
        return record
    cut = {column: record[column][:num_epochs] for column in COLUMNS if column in record}
    kept = {name: value for name, value in record.items() if name != "correct"}
    return {**kept, **cut, "num_epochs": num_epochs, "test_accuracy": cut["test_accuracies"][-1]}
