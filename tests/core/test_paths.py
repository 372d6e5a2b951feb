"""Paths in a study: one rule, for every field that its schema marks as something on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.run import Run
from modpo_hpc.study import Study, load_study
from modpo_hpc.study.paths import path_fields

FIELDS = sorted(path_fields())
METHOD = """
from typing import ClassVar, Literal
from modpo_hpc.methods.dpo import DPO

class Mine(DPO):
    label: ClassVar[str] = "mine"
    method: Literal["mine"] = "mine"
"""
BESIDE: dict[tuple[str, ...], dict[str, Any]] = {
    ("toxicity", "backends", "*"): {"kind": "classifier"},
    ("alignment", "sweep", "*"): {"name": "F", "method": "modpo", "criteria": ["empathy", "safety"], "weights": 3},
}
NAMES = {("alignment", "policies"): "DPO_Empathy", ("personas", "surveys"): "people", ("toxicity", "backends"): "own"}


def raw_study(field: tuple[str, ...], value: str) -> dict[str, Any]:
    """A study over the demo in which ``field`` is ``value``."""
    tree: Any = value
    for depth in reversed(range(len(field))):
        above, part = field[:depth], field[depth]
        if part == "*":
            tree = {NAMES[above]: tree} if above in NAMES else [tree]
        else:
            tree = {**BESIDE.get(above, {}), part: tree}
    return {"extends": "configs/demo.yaml", **tree}


def value_of(study: Study, field: tuple[str, ...]) -> str:
    tree: Any = study.model_dump(mode="json")
    for depth, part in enumerate(field):
        tree = tree[NAMES.get(field[:depth], 0) if part == "*" else part]
    return str(tree)


def brought(folder: Path, field: tuple[str, ...]) -> tuple[Path, str]:
    """Something on disk that ``field`` can name, below ``folder``; and its name from there."""
    folder.mkdir(exist_ok=True)
    path = folder / "own.py"
    if path_fields()[field].or_name or field[-1] == "ledger":
        path = folder / "own"
        path.mkdir()
    else:
        path.write_text(METHOD)
    return path, path.name


@pytest.mark.parametrize("field", FIELDS, ids=".".join)
def test_a_path_is_seen_from_the_file_that_says_it_and_never_from_where_the_command_is_typed(
    field: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name = brought(tmp_path / "mine", field)
    other, _ = brought(tmp_path / "elsewhere", field)
    file = tmp_path / "mine" / "study.yaml"
    file.write_text(yaml.safe_dump(raw_study(field, name)))
    child = tmp_path / "child.yaml"
    child.write_text("extends: mine/study.yaml\nseed: 7\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = load_study(file)
    assert value_of(study, field) == value_of(load_study(child), field) == str(path)
    if "judge" not in field and "*" not in field:
        assert value_of(load_study(file, [f"{'.'.join(field)}={name}"]), field) == str(other)

    Run.create(tmp_path / "run", study)
    monkeypatch.chdir(tmp_path)
    assert value_of(Run.open("run").study, field) == str(path)


def paths_of_schema(node: Any, definitions: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The fields that JSON schema knows as paths, wherever they stand."""
    if node.get("format") == "path":
        yield at
    if "$ref" in node:
        yield from paths_of_schema(definitions[node["$ref"].rpartition("/")[2]], definitions, at)
    for one in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from paths_of_schema(one, definitions, at)
    for name, one in node.get("properties", {}).items():
        yield from paths_of_schema(one, definitions, (*at, name))
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from paths_of_schema(node[key], definitions, (*at, "*"))


def test_every_field_whose_value_is_a_path_is_marked() -> None:
    schema = Study.model_json_schema()
    found = set(paths_of_schema(schema, schema["$defs"]))
    assert ("criteria", "files", "*") in found
    assert found <= set(FIELDS)


def test_a_shipped_file_and_a_model_of_the_hub_are_names_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "study.yaml"
    wanted = {
        "extends": "configs/demo.yaml",
        "models": {"base": "lab/model"},
        "criteria": {"files": ["configs/criteria/therapeutic.yaml"]},
        "alignment": {"training": {"deepspeed": "configs/deepspeed/zero2.json"}},
    }
    file.write_text(yaml.safe_dump(wanted))
    monkeypatch.chdir(tmp_path)
    study = load_study(file)
    assert study.models.base == "lab/model"
    assert study.criteria.files == (Path("configs/criteria/therapeutic.yaml"),)
    assert study.alignment.training.deepspeed == "configs/deepspeed/zero2.json"


@pytest.mark.parametrize("name", ["posts.csv", "configs/survey/columns.yaml"])
def test_what_is_seen_from_the_command_alone_is_refused_and_not_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "studies" / "study.yaml"
    file.parent.mkdir()
    file.write_text(f"extends: configs/demo.yaml\npersonas: {{columns: {name}}}\n")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("another")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"personas\.columns") as caught:
        load_study(file)
    assert f"../{name}" in str(caught.value)
    assert load_study(file, ["personas.columns=other.csv"]).personas.columns is not None


LAB = """
from pathlib import Path
from typing import ClassVar, Literal
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.modpo import MODPO
from modpo_hpc.section import ConfigurationFile, ModelName

class Lexical(DPO):
    label: ClassVar[str] = "lexical"
    method: Literal["lexical"] = "lexical"
    lexicon: Path
    schedule: ConfigurationFile | None = None
    critic: ModelName = "lab/critic"
    note: str = ""

class Weighed(MODPO):
    label: ClassVar[str] = "weighed"
    method: Literal["weighed"] = "weighed"
    lexicon: Path
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A method with paths among its fields, named by a study that another extends; the command is typed elsewhere."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "lexical.py").write_text(LAB)
    for folder in ("base", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words.txt").write_text(f"words of {folder}")
    (tmp_path / "base" / "critic").mkdir()
    policy = {"method": "lexical", "criteria": {"empathy": 1}, "lexicon": "words.txt", "note": "words.txt",
              "schedule": "configs/deepspeed/zero2.json", "critic": "critic"}  # fmt: skip
    alignment = {"methods": ["../methods/lexical.py"], "policies": {"Mine": policy}}
    (tmp_path / "base" / "study.yaml").write_text(
        yaml.safe_dump({"extends": "configs/demo.yaml", "alignment": alignment})
    )
    (tmp_path / "here" / "study.yaml").write_text("extends: ../base/study.yaml\n")
    (tmp_path / "typed").mkdir()
    (tmp_path / "typed" / "words.txt").write_text("words of where the command is typed")
    monkeypatch.chdir(tmp_path / "typed")
    return tmp_path


def test_a_path_of_a_labs_own_method_follows_the_one_rule(lab: Path) -> None:
    study = load_study(lab / "here" / "study.yaml")
    (mine,) = (study.alignment.policies["Mine"].model_dump(mode="json"),)
    assert mine["lexicon"] == str(lab / "base" / "words.txt")
    assert mine["critic"] == str(lab / "base" / "critic")
    assert (mine["schedule"], mine["note"]) == ("configs/deepspeed/zero2.json", "words.txt")

    over = "extends: ../base/study.yaml\nalignment: {policies: {Mine: {lexicon: words.txt, critic: lab/critic}}}\n"
    (lab / "here" / "study.yaml").write_text(over)
    mine = load_study(lab / "here" / "study.yaml").alignment.policies["Mine"].model_dump(mode="json")
    assert (mine["lexicon"], mine["critic"]) == (str(lab / "here" / "words.txt"), "lab/critic")

    given = load_study(lab / "here" / "study.yaml", ["alignment.policies.Mine.lexicon=words.txt"])
    assert given.alignment.policies["Mine"].model_dump(mode="json")["lexicon"] == str(lab / "typed" / "words.txt")
    Run.create(lab / "run", given)
    assert Run.open(lab / "run").study == given


def test_a_path_of_a_labs_own_method_that_is_seen_from_the_command_alone_is_refused(lab: Path) -> None:
    (lab / "base" / "words.txt").unlink()
    with pytest.raises(InputError, match=r"alignment\.policies\.Mine\.lexicon.*words\.txt") as caught:
        load_study(lab / "here" / "study.yaml")
    assert "../typed/words.txt" in str(caught.value)


def test_a_sweep_over_a_labs_own_method_follows_the_rule_too(lab: Path) -> None:
    family = {
        "name": "F",
        "method": "weighed",
        "criteria": ["empathy", "safety"],
        "weights": 1,
        "lexicon": "words.txt",
    }
    alignment = {"methods": ["../methods/lexical.py"], "sweep": [family]}
    (lab / "here" / "study.yaml").write_text(yaml.safe_dump({"extends": "configs/demo.yaml", "alignment": alignment}))
    policies = load_study(lab / "here" / "study.yaml").alignment.policies
    assert policies["F_50_50"].model_dump(mode="json")["lexicon"] == str(lab / "here" / "words.txt")


def test_of_what_a_labs_own_method_reads_the_content_counts_and_not_the_place(lab: Path) -> None:
    run = Run.create(lab / "run", load_study(lab / "here" / "study.yaml"))

    def identity() -> str:
        return Run.open(run.root).inventory().made_from("policies", "Mine").hash

    before = identity()
    (lab / "base" / "words.txt").write_text("other words")
    changed = identity()
    assert changed != before
    (lab / "here" / "words.txt").write_text("words of base")
    Run.create(
        run.root, load_study(lab / "here" / "study.yaml", [f"alignment.policies.Mine.lexicon={lab}/here/words.txt"])
    )
    assert identity() == before
