"""The probe's child is on the way to every first picture: it starts and reads without what it does not need."""

from __future__ import annotations

import subprocess
import sys


def test_the_probes_child_loads_no_settings_and_no_event_loop() -> None:
    code = (
        "import sys, origin.transcode.media.probechild\n"
        "print(*sorted({'pydantic', 'sqlalchemy', 'asyncio', 'headwater.settings'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
