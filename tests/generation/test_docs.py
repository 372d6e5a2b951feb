"""What the pages tell a reader to write and to type is understood."""

from __future__ import annotations

import argparse
import importlib
import keyword
import pkgutil
import re
import shlex
import subprocess
import sys

import pytest

from modpo_hpc.cli.main import COMMANDS
from modpo_hpc.study import load_study
from modpo_hpc.study.describe import describe
from modpo_hpc.study.model import Study
from tests.conftest import REPOSITORY
from tests.waiting import PATIENCE

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


READABLE = [REPOSITORY / "README.md", *PAGES]
NAMES = [page.name for page in READABLE]


def commands_in(text: str, pattern: str) -> list[list[str]]:
    """The words of each modpo command that ``pattern`` finds, without comments and the signs of usage."""
    lines = re.findall(pattern, text, re.MULTILINE)
    plain = [re.sub(r"[][]|\.\.\.", "", line) for line in lines]
    return [shlex.split(line, comments=True) for line in plain]


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"modpo {command}")
    module = f"modpo_hpc.cli.{command}"
    importlib.import_module(f"{module}_" if keyword.iskeyword(command) else module).add_arguments(parser)
    return parser


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser and of its subparsers."""
    found = []
    for action in parser._actions:
        inner = action.choices.values() if isinstance(action, argparse._SubParsersAction) else ()
        found += [action, *(one for part in inner for one in actions_of(part))]
    return found


@pytest.mark.parametrize("page", READABLE, ids=NAMES)
def test_every_command_in_the_docs_is_understood(page):
    """A line of a block is a whole command; in running text a command is named, with options that it has."""
    text = page.read_text()
    for words in commands_in(text, r"^ *modpo +([a-z]+ .*)$"):
        parser = parser_of(words[0])
        understood = vars(parser.parse_args(words[1:]))
        for action in actions_of(parser):
            given = understood.get(action.dest)
            folders = [one for one in (given if isinstance(given, list) else [given]) if str(one) == "DIR"]
            assert not folders or re.search("DIR|RUN", str(action.metavar)), f"DIR is taken for {action.dest}: {words}"
    for command, *words in commands_in(text, r"`modpo +([a-z]+[^`]*)`"):
        assert command in COMMANDS
        known = parser_of(command).format_help()
        assert [word for word in words if word.startswith("--") and word not in known] == []


@pytest.mark.parametrize("page", READABLE, ids=NAMES)
def test_every_target_of_make_in_the_docs_exists(page):
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= set(targets)


def test_the_doors_of_the_library_are_there():
    doors = re.findall(r"`(modpo_hpc[\w.]+)`", (REPOSITORY / "docs" / "api.md").read_text())
    assert len(doors) > 20
    for door in doors:
        pkgutil.resolve_name(door)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", READABLE, ids=NAMES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else page.parent / path
        assert found.exists(), target
        if anchor:
            assert anchor in {slug(line.lstrip("#")) for line in found.read_text().splitlines() if line.startswith("#")}


def test_every_page_is_linked_from_the_readme():
    readme = (REPOSITORY / "README.md").read_text()
    assert [page.name for page in PAGES if f"(docs/{page.name})" not in readme] == []


def test_the_page_on_the_study_file_names_every_section():
    page = describe()
    assert (REPOSITORY / "docs" / "study-file.md").read_text() == page, "it is old; make it anew with: make study-file"
    for name in Study.model_fields:
        assert f"`{name}`" in page or f"## {name}" in page
    assert "### " not in page
    assert "PydanticUndefined" not in page


WHERE = REPOSITORY / "docs" / "where-do-i-find.md"


def test_what_the_page_of_words_names_is_there():
    """Every file exists and defines each name that follows it; every room of the package is named."""
    page = WHERE.read_text()
    rows = [line.split("|")[2] for line in page.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 60
    for row in rows:
        text = ""
        for name in re.findall(r"`([^`]+)`", row):
            if "/" in name:
                assert (REPOSITORY / name).is_file(), name
                text = (REPOSITORY / name).read_text()
            else:
                assert re.search(rf"^\s*(?:(?:class|def) {name}\b|{name}\b.* = |{name}:)", text, re.MULTILINE), row
    for room in (REPOSITORY / "modpo_hpc").glob("*/__init__.py"):
        assert f"modpo_hpc/{room.parent.name}/" in page, f"name the room {room.parent.name} in {WHERE.name}"


@pytest.mark.slow
def test_the_pages_of_every_module_are_made_without_a_warning(tmp_path):
    options = ["--docformat", "google", "--output-directory", str(tmp_path)]
    command = [sys.executable, "-W", "error", "-m", "pdoc", *options, "modpo_hpc"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "modpo_hpc" / "alignment" / "losses.html").exists()
