"""Tools as children: real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from origin.transcode.programs.child import BACKGROUND, Ending, Limits, network_is_cut, run_child
from origin.transcode.programs.tools import find_ffmpeg, hostile_input
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


def test_a_child_whose_folder_is_removed_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "wanted"
    folder.mkdir()
    talking = "for n in itertools.count(): print(n, flush=True); time.sleep(0.1)"
    code = f"import time,shutil,itertools\nshutil.rmtree('../wanted')\n{talking}"
    assert run_child(python(code), folder, LIMITS).ending is Ending.ABANDONED


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
        "from pathlib import Path; import sys; from origin.transcode.programs.child import Limits, run_child\n"
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


def needs_namespaces(folder: Path) -> None:
    if not network_is_cut(folder):
        pytest.skip("this kernel lets nobody of this user make a network namespace")


def test_a_child_reaches_no_network_not_even_loopback(tmp_path: Path) -> None:
    needs_namespaces(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        result = run_child(python(code), tmp_path, LIMITS)
        assert result.ending is Ending.FAILED
        assert "Network is unreachable" in result.errors
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_child_without_a_network_keeps_its_user_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("text")
    (tmp_path / "mine").chmod(0o600)
    result = run_child(python("import os; print(os.getuid(), os.getgid(), open('mine').read())"), tmp_path, LIMITS)
    assert result.output.decode().split() == [str(os.getuid()), str(os.getgid()), "text"]


@pytest.mark.parametrize("kind", ["hls", "concat", "mp4"])
def test_ffmpeg_follows_no_reference_of_a_hostile_input(tmp_path: Path, kind: str) -> None:
    """Lists that name a file and a server: refused by format, whatever the name; without the lists, by the missing network."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        lists = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{secret}\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile '{secret}'\nfile '{url}'\n",
        }
        hostile = tmp_path / f"upload.{kind}"
        hostile.write_text(lists.get(kind, lists["hls"]))
        ffmpeg = find_ffmpeg("auto").path
        asked = [ffmpeg, "-nostdin", *hostile_input(hostile), "-f", "null", "-"]
        result = run_child(asked, tmp_path, LIMITS)
        assert result.ending is Ending.FAILED
        assert "secret" not in result.errors.replace(str(secret), "")
        if network_is_cut(tmp_path):
            careless = [ffmpeg, "-nostdin", "-protocol_whitelist", "file,http,tcp", "-i", url, "-f", "null", "-"]
            assert run_child(careless, tmp_path, LIMITS).ending is Ending.FAILED
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_child_of_the_background_makes_way(tmp_path: Path) -> None:
    limits = Limits(cpu_s=10, file_bytes=0, stall_s=10, nice=BACKGROUND)
    result = run_child(python("import os; print(os.nice(0))"), tmp_path, limits)
    assert int(result.output) == min(19, os.nice(0) + BACKGROUND)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group tasks by session")
def test_a_child_in_the_background_is_there_among_the_sessions_of_the_machine_too(tmp_path: Path) -> None:
    limits = Limits(cpu_s=10, file_bytes=0, stall_s=10, nice=BACKGROUND)
    result = run_child(python("print(open('/proc/self/autogroup').read())"), tmp_path, limits)
    assert int(result.output.split()[-1]) == min(19, os.nice(0) + BACKGROUND)
