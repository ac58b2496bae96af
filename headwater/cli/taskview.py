"""The tasks of a video on the command line: what runs, what had trouble and why, how much is done."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]


def print_making(making: Json, *, every_task: bool) -> None:
    """What is waited for, the tasks that people want to see, and their errors in full."""
    if making["waits_for"]:
        print(f"waits for {making['waits_for']}")
    job, tasks = making["job"], making["tasks"]
    if job and job["error"]:
        print(f"job {job['state']} (taken {job['attempts']} times): {job['error']}")
    done = [task for task in tasks if task["state"] == "done"]
    if tasks:
        worked = span(sum(task["took_s"] or 0 for task in done))
        print(f"tasks    {len(done)} of the {len(tasks)} begun are done; they took {worked}")
    shown = [task for task in tasks if every_task or task["state"] != "done" or task["attempts"] > 1]
    if shown:
        Console().print(_table(shown))
    for task in shown:
        if task["error"]:
            print(f"\n{task['name']}: {task['error']}")


def _table(tasks: list[Json]) -> Table:
    table = Table("task", "state", "attempts", "took", box=None)
    for task in tasks:
        took = "" if task["took_s"] is None else f"{task['took_s']:.1f} s"
        table.add_row(Text(task["name"]), task["state"], str(task["attempts"]), took)
    return table


def span(seconds: float) -> str:
    """About how long: 45 s, 12 min, 1 h 35 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
