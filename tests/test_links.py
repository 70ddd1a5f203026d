"""README and docs: links and files that they name exist, and every page is linked."""

from __future__ import annotations

import os
import re

import pytest
from pages import PAGES, ROOT


def anchors(page: str) -> set[str]:
    """What a page's headings are called in links to them, as GitHub does it."""
    found: set[str] = set()
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        bare = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = 0
        while (name := f"{bare}-{count}" if count else bare) in found:
            count += 1
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(os.path.relpath(file, ROOT)), f"{page}: {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES[1:] if f"]({page}" not in readme] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_repository_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = r"`(?:python )?((?:benchmarks|tests|ladder|predict|evaluation|configs)/[\w/.-]+\.\w+)"
    assert [path for path in re.findall(named, text) if not (ROOT / path).exists()] == []
