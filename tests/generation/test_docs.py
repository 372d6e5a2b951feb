"""What the pages tell a reader to write and to type is understood."""

from __future__ import annotations

import re

import pytest

from modpo_hpc.cli.main import COMMANDS
from modpo_hpc.study import load_study
from modpo_hpc.study.describe import describe
from modpo_hpc.study.model import Study
from tests.conftest import REPOSITORY

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
WHOLE = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def studies() -> list[tuple[str, str]]:
    """Every YAML block that is a study: it has a name at the top level."""
    found = []
    for page in PAGES:
        for indent, block in WHOLE.findall(page.read_text()):
            text = re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
            if re.search(r"^name: ", text, re.MULTILINE):
                found.append((page.name, text))
    return found


@pytest.mark.parametrize(("page", "text"), studies())
def test_a_study_in_the_docs_is_a_study(page, text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("extends: configs/", f"extends: {REPOSITORY}/configs/"))
    assert load_study(path).name in text


def test_the_docs_hold_studies():
    assert {"tutorial.md", "bring-your-own-criteria.md", "bring-your-own-domain.md"} <= {page for page, _ in studies()}


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_every_command_in_the_docs_exists(page):
    text = (REPOSITORY / "docs" / page).read_text()
    typed = re.findall(r"(?:^|`)modpo ([a-z]+)", text, re.MULTILINE)
    assert set(typed) <= set(COMMANDS)


def test_the_page_on_the_study_file_names_every_section():
    page = describe()
    assert (REPOSITORY / "docs" / "study-file.md").read_text() == page, "it is old; make it anew with: make study-file"
    for name in Study.model_fields:
        assert f"`{name}`" in page or f"## {name}" in page
    assert "### " not in page
    assert "PydanticUndefined" not in page
