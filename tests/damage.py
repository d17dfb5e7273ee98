"""Damaged inputs by the thousand: data files, records, claims and notebooks. Each has to be refused in one line.

An input is refused if its reader raises its own error with a message of one line that names the file and says what
helps. Anything else is a `Broken` promise: another exception, a damaged file that is read as if nothing were wrong, a
file whose code is run.
"""

import ast
import gzip
import json
import os
import pickle
import random
import re
import shutil
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import ROOT, fashion_mnist
from common.parameters import PARAMETERS
from study import claims, notebooks
from study.record import record_key, to_line
from study.table import TABLE, read_records

NONSENSE = (".nan", ".inf", "-1", "null", "nonsense", "[]", "{}")
FIXED = {  # keys of claims.yaml that the format names; others are names that the user gives
    *(
        "figures",
        "sweeps",
        "held_out",
        "factorial",
        "beyond",
        "comparisons",
        "setting",
        "reported",
        "notebook",
        "vary",
        "label",
        "steps",
        "scales",
    ),
    *("accuracy", "limit", "chosen", "candidates", "figure", "better", "no_better", "than", "margin", "sweep"),
    *PARAMETERS,
}
REMEDIES = ("restore", "replace", "delete", "correct", "put the files", "expected a folder")
HARMLESS = "harmless: in gzip's own notes, the data are right"
BOMB = 1 << 27  # bytes that a bomb unpacks to


class Broken(AssertionError):
    """A damaged input was not refused as it should be; the message says which."""


@dataclass
class Family:
    """Damaged versions of one file: what was done to it, and what does it to the sound content.

    Attributes:
        read: function without arguments that reads the file in the public way.
        error: that it has to raise.
        named: the file or folder that the message has to name.
        damages: pairs of a description and a function from bytes to bytes.
        links: where a link in the place of the file may not lead.
    """

    name: str
    path: Path
    read: callable
    error: type
    named: Path
    damages: list
    links: tuple = ("/", "itself")


def truncate(length):
    return f"cut to {length} bytes", lambda content: content[:length]


def flip(bit):
    def change(content):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    return f"bit {bit} flipped", change


def become(what, content):
    return what, lambda _: content


class Canary:
    """Leaves a file if somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# Data


def data_families(folder, source, choice):
    """Damage each of the four files of the data set, plain and gzipped; small files more often than large ones."""
    originals = {name: _plain(source, name) for name in fashion_mnist.FILES}
    canary = folder / "canary"
    bomb = gzip.compress(bytes(BOMB), 1)
    families = []
    for name, content in originals.items():
        for suffix in ("", ".gz"):
            pack = partial(gzip.compress, compresslevel=1, mtime=0) if suffix else bytes
            sound = pack(content)
            own = folder / f"{name}{suffix}-damaged"
            own.mkdir()
            path = own / f"{name}{suffix}"
            path.write_bytes(sound)
            header = 10 if suffix else 16 if "images" in name else 8
            small = len(content) < 1 << 20
            many = 1500 if small else 20
            others = [text for other, text in originals.items() if other != name]
            families.append(
                Family(
                    f"data set, {'gzipped' if suffix else 'plain'}",
                    path,
                    lambda own=own, name=name: fashion_mnist._read(own, name),  # load would read all four
                    fashion_mnist.DataError,
                    own / name,
                    [
                        *(truncate(length) for length in range(header + 1)),
                        *(truncate(choice.randrange(len(sound))) for _ in range(many)),
                        *(flip(bit) for bit in range(8 * header if small or not suffix else 24)),
                        *(flip(choice.randrange(8 * header, 8 * len(sound))) for _ in range(many)),
                        *(_with_magic(choice.randbytes(4)) for _ in range(50 if small else 5)),
                        *(("another file", lambda _, text=text, pack=pack: pack(text)) for text in others),
                        become("a pickle", pickle.dumps(Canary(canary))),
                        become("a pickle, gzipped", gzip.compress(pickle.dumps(Canary(canary)))),
                        become("a bomb", bomb),
                        become("bombs in a row", bomb * 3),
                        become("a bomb in a bomb", gzip.compress(bomb)),
                        ("twice itself", lambda content: content * 2),
                        ("backwards", lambda content: content[::-1]),
                    ],
                    links=("/", "itself", "nowhere", "/dev/zero", "/etc/passwd"),
                )
            )
    return families


def _plain(source, name):
    path = Path(source) / name
    return path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())


def _with_magic(magic):
    return f"magic number {magic.hex()}", lambda content: magic + content[4:]


# Records


def record_families(folder, rows):
    """Flip every bit of a record, cut it at every byte, and put tables and files of records together wrongly."""
    record = min(rows, key=len)
    key = record_key(json.loads(record))
    others = [row for row in rows if row != record][:2]
    single, table = folder / f"{key}.json", folder / TABLE
    single.write_bytes(record)
    table.write_bytes(record + b"".join(others))
    loaded = json.loads(record)
    changed = [
        become(f"{name} {what}", json.dumps(content).encode() + b"\n")
        for name in loaded
        for what, content in [
            ("missing", {key: value for key, value in loaded.items() if key != name}),
            *((f"is {value!r}", loaded | {name: value}) for value in (None, {}, "x", -1, 1e999)),
        ]
    ]
    told = {name: value for name, value in loaded.items() if name != "checksum"}
    changed += [
        become(f"{name} is {value!r}, with its checksum", to_line(told | {name: value}).encode())
        for name in told
        for value in (None, {}, -1)
    ]
    values = [b"\n", b"null\n", b"[]\n", b"{}\n", b'"text"\n', b"[" * 100000, b"\xff\xfe", b"9" * 5000]
    every_bit = [flip(bit) for bit in range(8 * len(record))]
    every_byte = [truncate(length) for length in range(len(record))]
    canary = pickle.dumps(Canary(folder / "canary"))
    wrong = [*changed, *(become(f"{value[:8]!r}", value) for value in values), become("a pickle", canary)]
    read_single, read_table = lambda: read_records(single), lambda: read_records(table)
    of_table = [
        *((what, lambda content, change=change: change(record) + others[0]) for what, change in wrong),
        become("a row twice", record * 2),
        become("rows run together", record.rstrip() + others[0]),
        become("rows interleaved", record[:50] + others[0] + record[50:]),
    ]
    return [
        Family(
            "record",
            single,
            read_single,
            ValueError,
            single,
            [*every_bit, *every_byte, *wrong, become("another run's", others[0]), become("two runs", record * 2)],
        ),
        Family("table of records", table, read_table, ValueError, table, of_table),
    ]


# Claims and notebooks


def claims_family(folder, choice):
    """Cut claims.yaml at random; misspell and double its keys; put nonsense in the place of every number."""
    path = folder / "claims.yaml"
    shutil.copy(claims.CLAIMS, path)
    text = path.read_text(encoding="utf-8")
    words = r"#.*|(claim|change): .*|(?<=ours: ).*"  # comments and sentences
    code = re.sub(words, lambda found: "-" * len(found[0]), text)
    fixed = [key for key in re.finditer(r"\b(\w+): (?!\[\{)", code) if key[1] in FIXED]
    doubled = [*re.finditer(r"(?m)^ *(\w+): *", code), *re.finditer(r"\{(\w+): ", code)]
    numbers = re.finditer(r"(?<=[ \[])\d[\d.]*(?=[,\]}\n])", code)
    canary = folder / "canary"
    damages = [
        *(truncate(choice.randrange(len(text.encode()) - 5)) for _ in range(300)),
        *(_replaced(text, key.end(1), key.end(1), "x") for key in fixed),
        *(_replaced(text, key.start(1), key.start(1), f"{key[1]}: 1{_break(key)}") for key in doubled),
        *(_replaced(text, *number.span(), value) for number in numbers for value in NONSENSE),
        become("no YAML", b"figures: [\n...\n"),
        become("a list", b"[]\n...\n"),
        become("nothing", b""),
        become("binary", bytes(range(256))),
        become("a tab", b"figures:\n\t- 1\n...\n"),
        become("a date that is none", b"figures: 2020-99-99\n...\n"),
        become("a key that is a list", b"? [1]\n: 2\n...\n"),
        become("a pickle", pickle.dumps(Canary(canary))),
        become("a Python call", f"!!python/object/apply:os.mkdir ['{canary}']\n...\n".encode()),
        become("an alias to itself", b"&a [*a]\n...\n"),
        become("deeply nested", b"[" * 5000),
    ]
    return Family("claims.yaml", path, lambda: claims.read(path), claims.ClaimsError, path, damages)


def _break(key):
    """Return what stands between two keys where this one is: a comma within braces, else a new line."""
    return ", " if key[0].startswith("{") else "\n" + " " * (len(key[0]) - len(key[0].lstrip()))


def _replaced(text, start, end, new):
    return become(f"{new!r} at character {start}", (text[:start] + new + text[end:]).encode())


def notebook_family(folder, sound):
    """Cut a notebook at every byte; take its one tag away, or double it; put nonsense into its parameters."""
    path = folder / "notebooks" / "figure_4.ipynb"
    path.parent.mkdir()
    path.write_bytes(sound)

    def read():
        notebooks._parameters_cell.cache_clear()  # a session reads a notebook once
        notebooks.ROOT = folder
        try:
            return notebooks.defaults("figure_4")
        finally:
            notebooks.ROOT = ROOT

    notebook = json.loads(sound)
    (index,) = (i for i, cell in enumerate(notebook["cells"]) if "parameters" in cell["metadata"].get("tags", []))
    lines = "".join(notebook["cells"][index]["source"]).splitlines()
    names = {number: code.target.id for number, line in enumerate(lines) for code in ast.parse(line).body}
    canary = folder / "canary"

    def with_cell(**changes):
        return _notebook(notebook, {index: notebook["cells"][index] | changes})

    def with_line(number, line):
        return with_cell(source="\n".join([*lines[:number], line, *lines[number + 1 :]]))

    nonsense = ("None", "b'nonsense'", "-1", "float('nan')", "1e999", "(1, 2)", "{}", "[[]]", "os.getcwd()", "")
    code = f"__import__('os').mkdir({str(canary)!r})"
    damages = [
        *(truncate(length) for length in range(len(sound.rstrip()))),
        *(
            become(f"{name} = {value}", with_line(number, f"{name}: int = {value}"))
            for number, name in names.items()
            for value in (*nonsense, code)
        ),
        *(become(f"{name} misspelt", with_line(number, f"{name}x: int = 1")) for number, name in names.items()),
        *(become(f"{name} without a type", with_line(number, f"{name} = 1")) for number, name in names.items()),
        *(become(f"code after {name}", with_line(n, f"{lines[n]}\n{code}")) for n, name in names.items()),
        become("no tag", with_cell(metadata={})),
        become("two tags", _notebook(notebook, {0: notebook["cells"][index] | {"id": "other"}})),
        become("no cells", json.dumps(notebook | {"cells": []}).encode()),
        become("not a notebook", b"print('hello')\n"),
        become("another JSON", b'{"cells": 1}'),
        become("a list", b"[]"),
        become("a pickle", pickle.dumps(Canary(canary))),
        become("a picture", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        become("deeply nested", b"[" * 100000),
        *(
            become(f"no {key}", json.dumps({k: v for k, v in notebook.items() if k != key}).encode())
            for key in ("cells", "metadata", "nbformat", "nbformat_minor")
        ),
    ]
    return Family("notebook", path, read, notebooks.NotebookError, path, damages)


def _notebook(notebook, cells):
    changed = [cells.get(index, cell) for index, cell in enumerate(notebook["cells"])]
    return json.dumps(notebook | {"cells": changed}).encode()


# Trying them


def corpus(folder, seed=0):
    """List the families of damaged inputs, made of this project's own files; the folder has to be empty."""
    choice = random.Random(seed)
    rows = (ROOT / "figures" / TABLE).read_bytes().splitlines(keepends=True)
    sound = (ROOT / "notebooks" / "figure_4.ipynb").read_bytes()
    return [
        *record_families(folder, rows),
        notebook_family(folder, sound),
        claims_family(folder, choice),
        *data_families(folder, fashion_mnist.find(), choice),
    ]


def try_all(folder, share=1.0, seed=0):
    """Try every damaged input, or a random share of each family; return how many of each were tried and refused.

    Raises:
        Broken: one was not refused as it should be.
    """
    choice = random.Random(seed)
    refused = Counter()
    for family in corpus(folder, seed):
        sound = family.path.read_bytes()
        right = family.read()
        for what, change in choice.sample(family.damages, max(1, round(share * len(family.damages)))):
            content = change(sound)
            if content == sound:
                continue  # a random change may change nothing
            family.path.write_bytes(content)
            refused[outcome(family, what, right)] += 1
        for target in family.links:
            family.path.unlink()
            family.path.symlink_to(family.path if target == "itself" else target)
            refused[outcome(family, f"a link to {target}", right)] += 1
        family.path.unlink()
        family.path.write_bytes(sound)
        if (folder / "canary").exists():
            raise Broken(f"{family.name}: code in a file was run")
    return {"inputs": refused.total(), **refused}


def outcome(family, what, right):
    """Read a damaged file, and return the family's name if it was refused."""
    if "bomb" in what:
        tracemalloc.start()
    try:
        read = family.read()
    except family.error as error:
        message = str(error)
    except Exception as error:
        raise Broken(f"{family.name}, {what}: {type(error).__name__}: {error}") from error
    else:
        if family.error is fashion_mnist.DataError and read == right:
            return HARMLESS
        raise Broken(f"{family.name}, {what}: not noticed")
    finally:
        peak = tracemalloc.get_traced_memory()[1] if tracemalloc.is_tracing() else 0
        tracemalloc.stop()
    if "\n" in message or str(family.named) not in message or not any(word in message for word in REMEDIES):
        raise Broken(f"{family.name}, {what}: an error that doesn't help: {message}")
    if peak > BOMB / 2:
        raise Broken(f"{family.name}, {what}: {peak} bytes of memory")
    return family.name
