"""ffmpeg behind a barrier: some of its calls wait until the test opens it, so that order is shown without a clock."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.media import ffmpeg_path


@dataclass(frozen=True, slots=True)
class Barrier:
    """`program` is what the setting `transcode.ffmpeg` is to name."""

    program: str
    opened: Path
    arrived: Path

    def open(self) -> None:
        self.opened.touch()

    @property
    def waiting(self) -> int:
        """How many calls came to the barrier."""
        return len(self.arrived.read_text().splitlines()) if self.arrived.exists() else 0


def barrier(folder: Path, *, holding: str) -> Barrier:
    """Holds the calls whose arguments match `holding`, a pattern of the shell's `case`."""
    program, opened, arrived = folder / "held-ffmpeg", folder / "opened", folder / "arrived"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in {holding})\n'
        f"  echo held >> {shlex.quote(str(arrived))}\n"
        f"  while [ ! -e {shlex.quote(str(opened))} ]; do sleep 0.05; done;;\n"
        "esac\n"
        f'exec {shlex.quote(ffmpeg_path())} "$@"\n'
    )
    program.chmod(0o755)
    return Barrier(str(program), opened, arrived)
