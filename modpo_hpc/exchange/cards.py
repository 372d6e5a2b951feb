"""The cards that travel with what is exported: where it comes from, what it showed, and what it is not for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import yaml

from modpo_hpc.data import questions
from modpo_hpc.errors import IncompleteError
from modpo_hpc.exchange.source_card import SourceCard, read_card
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.personas import records
from modpo_hpc.report import formats
from modpo_hpc.report.results import read_results
from modpo_hpc.run import Run

BASE_FOLDER = "base_model"
NOT_FOR = (
    "For research and supervised use. It has not been shown to be safe for people in need, and does not take the place "
    "of a professional."
)


def model_card(run: Run, policy: str, base: str) -> str:
    """The card of a policy's adapter, in Markdown with the hub's header. ``base`` is what its configuration names."""
    study, settings = run.study, run.study.alignment.policies[policy]
    head: dict[str, object] = {"library_name": "peft", "tags": ["lora", "modpo-hpc", settings.method]}
    if not base.startswith(".."):
        head["base_model"] = base
    made = "".join(f"| {name} | {weight:g} |\n" for name, weight in settings.made_of.items())
    training = study.alignment.training.model_dump(mode="json") | dict(getattr(settings, "training", {}))
    shown = "\n".join(f"- {name}: {value}" for name, value in training.items())
    return (
        f"{_head(head)}# {policy}\n\n{_mark(run)}"
        f"A LoRA adapter: {settings.label}, from the study `{study.name}` (seed {study.seed}).\n\n"
        f"- Base model: `{base}`" + (f", revision {study.models.base_revision}" if study.models.base_revision else "")
        + f"\n- Data: preference pairs of {formats.title(', '.join(study.criteria.rank))}, from rankings by "
        f"{study.ranking.personas_per_question} personas a question, played by {_judges(run)}\n\n"
        f"| part | weight |\n| --- | --: |\n{made}\n"
        f"## Results\n\n{_results(run, policy)}\n"
        f"## Limits\n\nThe judges are language models or rules that play personas; what they prefer is not what "
        f"people prefer until people have been asked. Intervals are of questions and personas drawn again, and hold "
        f"for the judge, the questions and the seed of this study. {NOT_FOR}\n\n"
        f"{_source(read_card(study))}## Training\n\n{shown}\n\n"
        f"## Loading\n\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM, "
        f'AutoTokenizer\n\nbase = AutoModelForCausalLM.from_pretrained("{base}")\n'
        f'model = PeftModel.from_pretrained(base, ".")\ntokenizer = AutoTokenizer.from_pretrained(".")\n```\n'
    )  # fmt: skip


def dataset_card(run: Run, tables: Mapping[str, tuple[str, int]]) -> str:
    """The card of the exported tables (name -> split, rows); its header makes each a configuration of the dataset."""
    study = run.study
    configurations = [
        {"config_name": name, "data_files": [{"split": split, "path": f"{name}/{split}.parquet"}]}
        for name, (split, _) in tables.items()
    ]
    listed = "".join(f"| {name} | {split} | {rows:,} |\n" for name, (split, rows) in tables.items())
    criteria = load_criteria(study.criteria.files, study.criteria.rank)
    defined = "".join(f"- **{one.title}** (`{one.name}`): {one.definition}\n" for one in criteria)
    card = read_card(study)
    head = {**(card.head if card else {}), "tags": ["preferences", "modpo-hpc"], "configs": configurations}
    return (
        f"{_head(head)}# {study.name}\n\n{_mark(run)}"
        f"Preferences, responses and answers of the study `{study.name}` (seed {study.seed}).\n\n"
        f"| table | split | rows |\n| --- | --- | --: |\n{listed}\n"
        f"- Questions: {_questions(run)}\n- Personas: {_personas(run)}\n"
        f"- Responses: `{study.models.base}`, {study.generation.responses_per_question} to a question\n"
        f"- Preferences: {study.ranking.personas_per_question} personas a question, played by {_judges(run)}; the best "
        f"and the worst by votes {list(study.ranking.weights)} are chosen and rejected\n\n"
        f"## Criteria\n\n{defined}\n{_source(card)}"
        f"## Limits\n\nThe preferences are those of personas that a judge plays. Questions may be personal: share this "
        f"folder as the source of the questions allows, and no further. {NOT_FOR}\n\n"
        f'## Loading\n\n```python\nfrom datasets import load_dataset\n\nrows = load_dataset(".", '
        f'"{next(iter(tables))}", split="{next(iter(tables.values()))[0]}")\n```\n'
    )


def _source(card: SourceCard | None) -> str:
    """The user's own words, a level below the title."""
    return re.sub(r"^(#{1,5} )", r"#\1", card.text, flags=re.MULTILINE) + "\n" if card else ""


def _questions(run: Run) -> str:
    source = run.study.data.epitome or run.study.data.file
    if source is None:
        return "invented by the sandbox"
    kept = run.folder("questions") / questions.ACCOUNT
    return questions.RowAccount(**json.loads(kept.read_text())).sentence() if kept.exists() else source.name


def _personas(run: Run) -> str:
    who = ", ".join(run.study.personas.surveys) or "invented by the sandbox"
    kept = run.folder("personas") / records.ACCOUNT
    if not kept.exists():
        return who
    account = json.loads(kept.read_text())
    return (
        f"{account['selected']} of {account['participants']} participants ({who}); {len(account['copies'])} copies and "
        f"{account['below_floor']} below the quality floor of {account['quality_floor']:g} left out"
    )


def _head(content: Mapping[str, object]) -> str:
    return f"---\n{yaml.safe_dump(dict(content), sort_keys=False)}---\n\n"


def _mark(run: Run) -> str:
    return f"> {run.sandbox_mark}. What it shows says nothing about people.\n\n" if run.sandbox_mark else ""


def _judges(run: Run) -> str:
    return ", ".join(f"`{judge.model}`" for judge in run.study.judges)


def _results(run: Run, policy: str) -> str:
    try:
        results = read_results(run)
    except IncompleteError:
        return "Not judged when this was exported.\n"
    settings = results.summary["settings"]
    if results.is_sequential:
        table, value, called, level = "share_ranking", "share", "mean share of votes", 1 - settings["alpha"]
    else:
        table, value, called, level = "ranking", "win_rate", "average win rate", settings["confidence"]
    rows = [row for row in results.tables[table] if row["policy"] == policy]
    if not rows:
        return "Not among the policies that were judged.\n"
    lines = [
        f"| {row['phase']} | {formats.title(row['criterion'])} | {formats.percent(row[value])} | "
        f"{formats.interval(row['low'], row['high'])} | {row['rank']} |\n"
        for row in rows
    ]
    head = f"| phase | criterion | {called} | {level:.0%} interval | rank |\n| --- | --- | --: | --: | --: |\n"
    return head + "".join(lines)
