"""The long version of what the tests do in short: `python -m tests.torture` writes figures/torture.json.

Names of parts as arguments run these only, and leave the others' last results as they are.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import faults

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "figures" / "torture.json"


def try_faults():
    with faults.scratch() as folder:
        return faults.fail_at_every_step(folder, lanes=os.cpu_count())


def try_kills():
    with faults.scratch() as folder:
        return faults.kill_at_random(folder, num_kills=300)


def try_damage():
    from tests import damage  # which imports the project, as the faults import a copy of it

    with tempfile.TemporaryDirectory() as folder:
        return damage.try_all(Path(folder))


def try_repeats(times=10):
    """Run the quick batch again and again, each time in a folder of its own; return how many times and the hash.

    Raises:
        RuntimeError: two of them left different bytes.
    """
    hashes = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, ROOT / "reproduce.py", "--quick", "--output", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            content = [name.encode() + content for name, content in sorted(faults.files(Path(folder)).items())]
        hashes.append(hashlib.sha256(b"".join(content)).hexdigest())
    if len(set(hashes)) > 1:
        raise RuntimeError(f"the quick batch left different bytes: {hashes}")
    return {"repeats": times, "hash": hashes[0]}


KEPT = "every finished record kept; run again, the same bytes"
ROWS = {  # part: what was tried, which of its numbers says how often, and what it means that there is a result
    "faults": ("a write, sync, rename or start of a process that fails, each in four ways", "faults", KEPT),
    "kills": ("`kill -9` at a random moment", "kills", KEPT),
    "damage": ("a damaged input", "inputs", "refused in one line, or harmless"),
    "repeats": ("the quick batch again", "repeats", "the same bytes"),
}
PARTS = {"faults": try_faults, "kills": try_kills, "damage": try_damage, "repeats": try_repeats}


def table(result):
    """Write what came out as a table for the README: a line a part."""
    lines = ["| Tried | Times | Of these | Outcome |", "|:--|--:|:--|:--|"]
    for name, (what, count, outcome) in ROWS.items():
        if name in result:
            numbers = {key: f"{value:,}" if isinstance(value, int) else value for key, value in result[name].items()}
            kinds = [f"{key} {value}" for key, value in numbers.items() if key not in (count, "minutes", "steps")]
            lines.append(f"| {what} | {numbers[count]} | {'; '.join(kinds)} | {outcome} |")
    return "\n".join(lines)


def main(names):
    if len(names) != 1:
        for name in names or PARTS:
            subprocess.run([sys.executable, "-m", "tests.torture", name], check=True, cwd=ROOT)
        return
    (name,) = names
    started = time.monotonic()
    found = PARTS[name]()
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result[name] = {**found, "minutes": round((time.monotonic() - started) / 60)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: {result[name]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
