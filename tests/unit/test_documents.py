"""What the documents say of the code, held against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headwater.cacheproxy.proxy import STEPS
from tests.support.deployments import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_life_of_a_request_has_the_steps_of_the_code_in_their_order() -> None:
    text = (ROOT / "docs" / "life-of-a-request.md").read_text()
    assert tuple(re.findall(r"^\| \*\*([^*]+)\*\* \|", text, re.MULTILINE)) == STEPS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (document.parent / link).exists()]
    assert not missing
    modules = re.findall(r"`((?:headwater|origin|signer|edge|shield|dnssteer|control|loadtest)/[\w/]+\.py)`", text)
    assert not [module for module in modules if not (ROOT / module).exists()]
