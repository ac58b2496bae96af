"""Puts a measured section into a page, in place of what the same bench wrote before."""

from __future__ import annotations

from pathlib import Path


def placed(page: Path, name: str, section: str) -> None:
    """The section stands between two comments that name it; a page without them gets it at its end."""
    begins, ends = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    text = page.read_text(encoding="utf-8")
    if begins in text and ends in text:
        before, _, rest = text.partition(begins)
        text = before + begins + section + ends + rest.partition(ends)[2]
    else:
        text = text.rstrip("\n") + "\n\n" + begins + section + ends
    page.write_text(text, encoding="utf-8")
