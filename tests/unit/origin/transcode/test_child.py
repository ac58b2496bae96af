"""Tools as children: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from origin.transcode.child import Ending, Limits, run_child
from tests.support.deployments import ROOT

LIMITS = Limits(cpu_s=10, file_bytes=2**20, stall_s=10)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_a_child_hands_over_its_output_and_its_last_error_lines(tmp_path: Path) -> None:
    code = "import sys\nprint('result')\nfor n in range(100): print('line', n, file=sys.stderr)\nsys.exit(3)"
    result = run_child(python(code), tmp_path, LIMITS)
    assert (result.ending, result.status, result.output) == (Ending.FAILED, 3, b"result\n")
    assert result.errors.splitlines()[-1] == "line 99"
    assert len(result.errors.splitlines()) == 40


def test_a_child_without_progress_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    code = "import time,sys\nwhile True:\n print('frame=1', flush=True); time.sleep(0.1)"
    limits = Limits(cpu_s=10, file_bytes=0, stall_s=0.5)
    assert run_child(python(code), tmp_path, limits).ending is Ending.STALLED
    assert time.monotonic() - began < 5


def test_a_child_that_makes_progress_may_take_longer_than_the_stall(tmp_path: Path) -> None:
    code = "import time\nfor n in range(10):\n print(n, flush=True); time.sleep(0.1)"
    assert run_child(python(code), tmp_path, Limits(cpu_s=10, file_bytes=0, stall_s=0.6)).ending is Ending.DONE


def test_a_child_that_computes_for_too_long_is_killed(tmp_path: Path) -> None:
    limits = Limits(cpu_s=1, file_bytes=0, stall_s=30)
    assert run_child(python("while True: pass"), tmp_path, limits).ending is Ending.KILLED


def test_a_child_cannot_fill_the_disk(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen('big', 'wb').write(bytes(2**22))"
    assert run_child(python(code), tmp_path, LIMITS).ending is Ending.FILE_LIMIT
    assert (tmp_path / "big").stat().st_size <= 2**20


def test_a_child_that_asks_for_all_memory_fails_alone(tmp_path: Path) -> None:
    limits = Limits(cpu_s=10, file_bytes=0, stall_s=10, memory_bytes=2**29)
    result = run_child(python("b = bytearray(2**30)"), tmp_path, limits)
    assert result.ending is Ending.FAILED
    assert "MemoryError" in result.errors


def test_a_child_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    sleeper = "import os, time; open('pid', 'w').write(str(os.getpid())); open('up', 'w').close(); time.sleep(60)"
    code = (
        "from pathlib import Path; import sys; from origin.transcode.child import Limits, run_child\n"
        f"command = [sys.executable, '-I', '-S', '-c', {sleeper!r}]\n"
        f"run_child(command, Path({str(tmp_path)!r}), Limits(cpu_s=10, file_bytes=100, stall_s=60))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "up").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = psutil.Process(int((tmp_path / "pid").read_text()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    finally:
        parent.kill()
        parent.wait()
