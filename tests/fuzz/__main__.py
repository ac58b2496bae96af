"""Runs every fuzz target for its share of a time: `python -m tests.fuzz [SECONDS [TARGET]]`; exit status 1 on the first crash.

Each target runs in a process of its own, because libFuzzer ends the process that it runs in. An input that crashes one is
kept in `var/fuzz/`, and its name is printed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

FOUND = Path("var/fuzz")
ATHERIS_MISSING = (
    "make fuzz needs atheris, which has wheels for CPython 3.11 to 3.13 on 64-bit Intel Linux: run `pip install atheris` in the\n"
    "virtual environment, or make the environment anew with such a Python: make clean; make fuzz PYTHON=python3.11"
)


def main(arguments: list[str]) -> int:
    if importlib.util.find_spec("atheris") is None:
        print(ATHERIS_MISSING, file=sys.stderr)
        return 2
    if len(arguments) == 2:
        return fuzz_one(arguments[1], float(arguments[0]))
    seconds = float(arguments[0]) if arguments else 60.0
    from tests.fuzz.targets import TARGETS  # not in the processes that fuzz: there it is imported with instruments

    FOUND.mkdir(parents=True, exist_ok=True)
    for name in TARGETS:
        share_s = max(1, round(seconds / len(TARGETS)))
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", str(share_s), name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(done.stdout[-4000:], done.stderr[-8000:], sep="\n")
            print(f"{name}: crashed; the input is in {FOUND}/", file=sys.stderr)
            return 1
        runs = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("Done ")), "done")
        print(f"{name}: {runs}", flush=True)
    return 0


def fuzz_one(name: str, seconds: float) -> int:
    """Fuzzes one target in this process. libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["headwater.rules", "signer.grant", "dnssteer.query"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="headwater-fuzz-") as corpus:
        for number, seed in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={int(seconds)}",
            f"-artifact_prefix={FOUND}/{name}-",
            "-max_len=4096",
            "-timeout=5",
            "-verbosity=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], target.run)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
