"""What a run holds, written for others: the authors' formats, datasets of the hub, adapters for plain PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modpo_hpc.core.atomic import atomic_file, atomic_folder, write_text
from modpo_hpc.core.markers import read_marker
from modpo_hpc.data import authors, files
from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.exchange import cards
from modpo_hpc.exchange.names import rating_names, their_response_id
from modpo_hpc.exchange.source_card import read_card
from modpo_hpc.personas.columns import IMPORTANCE
from modpo_hpc.prompts import answering_messages
from modpo_hpc.run import Run

FORMATS = ("authors", "datasets", "adapters")
_ANSWER_COLUMNS = ("question_id", "question_text", "response_text", "model_name", "tokens", "finish_reason", "seed")
_RESPONSE_COLUMNS = ("question_id", "question_text", "response_id", "response_text", "tokens", "finish_reason", "seed")


def write_out(run: Run, folder: Path, formats: tuple[str, ...]) -> dict[str, int]:
    """Write everything that ``run`` has in ``formats``.

    Returns:
        Entries of each file or folder written, by its path below ``folder``.

    Raises:
        InputError: the folder holds files already, or the study's card of its data cannot be read.
        IncompleteError: the run has nothing to export yet.
    """
    refuse_taken(folder)
    read_card(run.study)
    writers = {"authors": _authors_files, "datasets": _datasets, "adapters": _adapters}
    written: dict[str, int] = {}
    for name in formats:
        for path, entries in writers[name](run, folder / name):
            written[str(path.relative_to(folder))] = entries
    if not written:
        raise IncompleteError(
            f"{run.root}: nothing of what was asked for is finished yet. See: modpo status {run.quoted}"
        )
    return written


def write_adapter(run: Run, policy: str, folder: Path, weights: Mapping[str, float] | None = None) -> None:
    """Write the adapter of ``policy`` alone, for PEFT; of a conditioned one, as it answers at ``weights``.

    Raises:
        InputError: the folder holds files, the policy has no adapter, or these weights are none of its own.
        IncompleteError: the policy is not trained yet.
    """
    from modpo_hpc.alignment.adapter import read_adapter, save_adapter
    from modpo_hpc.alignment.conditioned import WHOLE, at_weights, read_conditioned
    from modpo_hpc.generation.policies import adapter_path, load_tokenizer
    from modpo_hpc.methods.conditioned import Conditioned
    from modpo_hpc.models import base_model_path

    refuse_taken(folder)
    policies = run.study.alignment.policies
    if policy not in policies:
        raise InputError(
            "there is no such policy", field="policy", value=policy, remedy=f"There are: {', '.join(policies)}."
        )
    if weights and not isinstance(policies[policy], Conditioned):
        raise InputError(
            "only a conditioned policy answers at weights of one's own",
            field="policy",
            value=policy,
            remedy="Leave --weights out, or name a policy of method conditioned.",
        )
    source = adapter_path(run, policy)
    if source is None:
        raise InputError("this policy has no adapter", field="policy", value=policy, remedy="Name one that is trained.")
    adapter = at_weights(*read_conditioned(source.parent / WHOLE), weights) if weights else read_adapter(source)
    base = base_model_path(run) if run.study.models.base == "sandbox" else run.study.models.base
    with atomic_folder(folder) as target:
        save_adapter(target, adapter[0], {**adapter[1], "base_model_name_or_path": base})
        load_tokenizer(run).save_pretrained(target)


def refuse_taken(folder: Path) -> None:
    """Raises InputError where ``folder`` holds files already."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError("this folder holds files already", file=folder, remedy="Give a new or empty folder.")


def _authors_files(run: Run, folder: Path) -> Iterator[tuple[Path, int]]:
    if run.made("personas"):
        yield from _personas(run, folder)
    if not run.made("questions"):
        return
    texts: dict[str, str] = {}
    for split in ("train", "test"):
        questions = study_questions(run, split)
        texts.update({one.question_id: one.text for one in questions})
        rows = [{"question_id": one.question_id, "question_text": one.text} for one in questions]
        yield _csv(folder / f"questions_{split}.csv", ("question_id", "question_text"), rows)
    if run.made("responses"):
        responses = run.table("responses").to_pylist()
        listed = [{**_text_row(one, texts), "response_id": their_response_id(one["response_id"])} for one in responses]
        yield _csv(folder / "responses_train.csv", _RESPONSE_COLUMNS, listed)
        if run.made("pairs"):
            yield from _preferences(run, folder, texts, {one["response_id"]: one["text"] for one in responses})
    if run.made("answers"):
        answers = run.table("answers").to_pylist()
        for policy in run.study.alignment.policies:
            listed = [{**_text_row(one, texts), "model_name": policy} for one in answers if one["policy"] == policy]
            yield _csv(folder / f"{policy}_responses.csv", _ANSWER_COLUMNS, listed)


def _personas(run: Run, folder: Path) -> Iterator[tuple[Path, int]]:
    table = run.table("personas").to_pylist()
    names = rating_names()
    rated = [name.removeprefix(IMPORTANCE) for name in (table[0] if table else {}) if name.startswith(IMPORTANCE)]
    everyone: dict[str, Any] = {"metadata": {"total_selected": len(table)}}
    for split in ("train", "test"):
        people = [one for one in table if one["split"] == split]
        yield _json(folder / f"{split}_personas.json", {one["persona_id"]: one["text"] for one in people}, len(people))
        everyone["metadata"][f"{split}_count"] = len(people)
        everyone[f"{split}_personas"] = [
            {
                "persona_id": one["persona_id"],
                "population": one["population"],
                "demographics": {
                    "age_group": one["age_group"],
                    "gender": one["gender"],
                    "ethnicity": "; ".join(one["ethnicities"] or ()),
                },
                names.key_for(rated): {names.theirs(name): one[f"{IMPORTANCE}{name}"] for name in rated},
                "persona_text": one["text"],
            }
            for one in people
        ]
    yield _json(folder / "all_personas.json", everyone, len(table))


def _preferences(
    run: Run, folder: Path, questions: Mapping[str, str], responses: Mapping[str, str]
) -> Iterator[tuple[Path, int]]:
    def shown(identity: str) -> dict[str, Any]:
        return {"response_id": their_response_id(identity), "response_text": responses[identity]}

    for criterion, listed in _pairs(run):
        pairs, rankings = [], []
        for one in listed:
            question = {"question_id": one["question_id"], "question_text": questions[one["question_id"]]}
            pairs.append({**question, "chosen": shown(one["chosen"]), "rejected": shown(one["rejected"])})
            ranked = sorted(
                zip(one["responses"], one["votes"], strict=True),
                key=lambda both: (-both[1], both[0] != one["chosen"], both[0] == one["rejected"], both[0]),
            )
            ranking = [
                {"rank": rank, **shown(identity), "votes": votes}
                for rank, (identity, votes) in enumerate(ranked, start=1)
            ]
            rankings.append({**question, "ranking": ranking})
        yield _json(folder / f"{criterion}_pairs.json", pairs, len(pairs))
        yield _json(folder / f"{criterion}_rankings.json", rankings, len(rankings))


def _pairs(run: Run) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """The pairs of each criterion, which stand together: a criterion is a shard."""
    return groupby(run.table("pairs").to_pylist(), key=itemgetter("criterion"))


def _datasets(run: Run, folder: Path) -> Iterator[tuple[Path, int]]:
    """One dataset of the hub, each table a configuration: preferences are what TRL's trainers take."""
    tables: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    if run.made("pairs") and run.made("responses"):
        texts = {one.question_id: one.text for one in study_questions(run, "train")}
        table = run.table("responses", ["response_id", "text"]).to_pydict()
        responses = dict(zip(table["response_id"], table["text"], strict=True))
        for criterion, listed in _pairs(run):
            rows = [
                {
                    "prompt": answering_messages(texts[one["question_id"]], run.study.generation.instruction),
                    "chosen": [{"role": "assistant", "content": responses[one["chosen"]]}],
                    "rejected": [{"role": "assistant", "content": responses[one["rejected"]]}],
                    "question_id": one["question_id"],
                    "margin": one["margin"],
                }
                for one in listed
            ]
            tables[f"preferences_{criterion}"] = ("train", rows)
    for stage, split in (("responses", "train"), ("answers", "test")):
        if run.made(stage):
            tables[stage] = (split, run.table(stage).to_pylist())
    for name, (split, rows) in tables.items():
        with atomic_file(folder / name / f"{split}.parquet") as stream:
            pq.write_table(pa.Table.from_pylist(rows), stream, compression="zstd")
        yield folder / name, len(rows)
    if tables:
        sizes = {name: (split, len(rows)) for name, (split, rows) in tables.items()}
        yield _card(folder, cards.dataset_card(run, sizes))


def _adapters(run: Run, folder: Path) -> Iterator[tuple[Path, int]]:
    """Each policy's adapter in a folder of its own, with tokenizer and card; the sandbox's base model beside them."""
    from modpo_hpc.generation.policies import adapter_path, load_tokenizer
    from modpo_hpc.models import base_model_path

    base = run.study.models.base
    for policy, settings in run.study.alignment.policies.items():
        marker = read_marker(run.folder(settings.stage), policy) if settings.stage else None
        if marker is None or not marker.outputs:
            continue
        if base == "sandbox":
            base = f"../{cards.BASE_FOLDER}"
            shutil.copytree(base_model_path(run), folder / cards.BASE_FOLDER)
            yield folder / cards.BASE_FOLDER, 1
        source = adapter_path(run, policy)
        assert source is not None
        with atomic_folder(folder / policy) as target:
            shutil.copytree(source, target, dirs_exist_ok=True)
            configuration = target / "adapter_config.json"
            content = json.loads(configuration.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
            configuration.write_text(json.dumps(content, indent=2), encoding="utf-8")
            load_tokenizer(run).save_pretrained(target)
        yield _card(folder / policy, cards.model_card(run, policy, base))
        yield folder / policy, 1


def _text_row(one: Mapping[str, Any], questions: Mapping[str, str]) -> dict[str, Any]:
    return {
        "question_id": one["question_id"],
        "question_text": questions[one["question_id"]],
        "response_text": one["text"],
        **{name: one[name] for name in ("tokens", "finish_reason", "seed")},
    }


def _csv(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> tuple[Path, int]:
    with atomic_file(path, "w") as stream:
        files.write_csv(stream, columns, rows)
    return path, len(rows)


def _json(path: Path, content: Any, entries: int) -> tuple[Path, int]:
    with atomic_file(path, "w") as stream:
        authors.write_json(stream, content)
    return path, entries


def _card(folder: Path, text: str) -> tuple[Path, int]:
    write_text(folder / "README.md", text)
    return folder / "README.md", 1
