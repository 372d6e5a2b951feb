"""A bundle of the authors' files becomes the stages of a run, from which the study goes on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from modpo_hpc.core.markers import IMPORTED, Marker, Output, marker_path, write_marker
from modpo_hpc.data import questions
from modpo_hpc.data.authors import AuthorsPersona, Ranked, Response
from modpo_hpc.data.questions import Question, Split, study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.exchange.bundle import Bundle
from modpo_hpc.exchange.names import OWN_RATINGS, rating_names
from modpo_hpc.exchange.persona_texts import labelled, ratings_in
from modpo_hpc.generation.records import ANSWERS, RESPONSES, flags_of
from modpo_hpc.judging.tables import PAIRS
from modpo_hpc.personas.answers import age_band, group_of, several
from modpo_hpc.personas.columns import IMPORTANCE, Columns, load_columns
from modpo_hpc.personas.records import schema as personas_schema
from modpo_hpc.pipeline import ALL, STAGES, stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.stages.stage import before_dot
from modpo_hpc.study import Study

SPLITS: tuple[Split, ...] = ("train", "test")
NO_POPULATION = "imported"


def bring_in(run: Run, bundle: Bundle) -> dict[str, int]:
    """Write the stages that ``bundle`` holds, and mark those that nothing needs any more.

    Returns:
        Rows of each stage written; 0 for those that are not needed.

    Raises:
        InputError: the run has one of these stages already, or the questions of only one split are known. Nothing is
            written then.
    """
    given = _stages_of(bundle, run)
    for name in given:
        if any(marker_path(run.folder(name), shard).exists() for shard in run.shard_ids(name)):
            raise InputError(
                f"this run has {name} already",
                file=run.root,
                field=name,
                remedy="Import into a new run: --run NEW_DIR.",
            )
    columns = load_columns(run.study.personas.columns)
    writers: dict[str, Callable[[Run, Bundle], int]] = {
        "questions": _write_questions,
        "personas": partial(_write_personas, columns=columns),
        "responses": _write_responses,
        "pairs": _write_pairs,
        "answers": _write_answers,
    }
    rows = {name: writers[name](run, bundle) for name in given}
    for name in unneeded(given, run.study):
        for shard in run.shard_ids(name):
            _mark(run, name, shard, {}, {"not_needed": 1.0})
        rows[name] = 0
    return rows


def unneeded(given: Collection[str], study: Study) -> list[str]:
    """The stages that none of ``study`` needs once ``given`` are there: their users are all given or unneeded."""
    idle: list[str] = []
    at_work = [stage for stage in STAGES if stage.shards(study)]
    for stage in reversed(STAGES):
        users = [other.name for other in at_work if stage.name in other.needed_stages(study)]
        if stage.name not in given and users and all(user in given or user in idle for user in users):
            idle.append(stage.name)
    return idle[::-1]


def _stages_of(bundle: Bundle, run: Run) -> list[str]:
    parts: Mapping[str, object] = {
        "questions": bundle.questions["train"] and bundle.questions["test"],
        "personas": bundle.personas,
        "responses": bundle.responses,
        "pairs": bundle.ranked,
        "answers": bundle.answers,
    }
    given = [name for name, part in parts.items() if part]
    known = {split: set(listed) for split, listed in bundle.questions.items()}
    mentioned = [split for split in known if known[split]]
    if mentioned and "questions" not in given:
        if run.missing("questions"):
            lacking = "test" if mentioned == ["train"] else "train"
            raise InputError(
                f"these files hold no {lacking} questions, and the run has none",
                field="questions",
                remedy=f"Add questions_{lacking}.csv, or first make the run's own questions: "
                f"modpo run STUDY --run {run.quoted} --until questions",
            )
        known = {split: {one.question_id for one in study_questions(run, split)} for split in SPLITS}
        if strange := sorted(bundle.questions[mentioned[0]].keys() - known[mentioned[0]]):
            raise InputError(
                f"{len(strange)} questions of these files are not among the run's {mentioned[0]} questions",
                field="question_id",
                value=strange[0],
                remedy="Import the questions too, into a new run.",
            )
    _check_complete("training question has no responses", known["train"], [bundle.responses])
    _check_complete("test question is not answered by every model", known["test"], list(bundle.answers.values()))
    if not given:
        raise InputError("there is nothing to import", remedy="Give the authors' files or a folder of them.")
    return given


def _check_complete(problem: str, known: Collection[str], given: Sequence[Mapping[str, object]]) -> None:
    for part in given:
        if part and (lacking := sorted(set(known) - part.keys())):
            raise InputError(
                f"this {problem}",
                field="question_id",
                value=lacking[0],
                remedy=f"Complete the files, or leave the question out ({len(lacking)} in all).",
            )


def _write_questions(run: Run, bundle: Bundle) -> int:
    rows = [
        {"question_id": identity, "text": text, "split": split}
        for split in SPLITS
        for identity, text in bundle.questions[split].items()
    ]
    return _write(run, "questions", ALL[0], rows, questions.SCHEMA)


def _write_personas(run: Run, bundle: Bundle, columns: Columns) -> int:
    rows = [_persona_row(one, split, columns) for split in SPLITS for one in bundle.personas[split]]
    return _write(run, "personas", ALL[0], rows, personas_schema(columns.criteria))


def _persona_row(one: AuthorsPersona, split: str, columns: Columns) -> dict[str, Any]:
    told: Mapping[str, Any] = one.details.get("demographics", {})
    names = rating_names()
    rated: Mapping[str, Any] = one.details.get(names.key) or one.details.get(OWN_RATINGS) or {}
    in_text = ratings_in(one.text, columns)
    ethnicities = several(told.get("ethnicity") or labelled(one.text, "Ethnicity"), columns)
    gender = told.get("gender") or labelled(one.text, "Gender")
    return {
        "persona_id": one.persona_id,
        "split": split,
        "population": str(one.details.get("population") or NO_POPULATION),
        "age_group": age_band(told.get("age_group") or labelled(one.text, "Age")),
        "gender": group_of((gender,) if gender else (), "gender", columns, other="Self-described"),
        "primary_ethnicity": group_of(ethnicities, "ethnicity", columns),
        "ethnicities": list(ethnicities),
        **{f"{IMPORTANCE}{name}": _rating(rated.get(names.theirs(name))) or in_text[name] for name in columns.criteria},
        "text": one.text,
    }


def _rating(value: object) -> int | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if number in (1, 2, 3, 4, 5) else None


def _write_responses(run: Run, bundle: Bundle) -> int:
    written = 0
    for shard, block in _blocks(run, "responses", "train"):
        rows = [
            {"response_id": identity, **_text_columns(response)}
            for question in block
            for identity, response in sorted(
                bundle.responses[question.question_id].items(), key=lambda item: (len(item[0]), item[0])
            )
        ]
        written += _write(run, "responses", shard, rows, RESPONSES)
    return written


def _write_answers(run: Run, bundle: Bundle) -> int:
    written = 0
    for shard, block in _blocks(run, "answers", "test"):
        policy = before_dot(shard)
        rows = [{"policy": policy, **_text_columns(bundle.answers[policy][question.question_id])} for question in block]
        written += _write(run, "answers", shard, rows, ANSWERS)
    return written


def _write_pairs(run: Run, bundle: Bundle) -> int:
    rows = {criterion: _pair_rows(run, criterion, bundle.ranked[criterion]) for criterion in run.study.criteria.rank}
    return sum(_write(run, "pairs", criterion, listed, PAIRS) for criterion, listed in rows.items())


def _blocks(run: Run, stage: str, split: Split) -> Iterator[tuple[str, list[Question]]]:
    """Each shard of ``stage`` with the questions that fall to it."""
    chosen = study_questions(run, split)
    for shard in run.shard_ids(stage):
        yield shard, Shard(run, stage_named(stage), shard, Path()).block(chosen)


def _text_columns(response: Response) -> dict[str, Any]:
    return {
        "question_id": response.question_id,
        "text": response.text,
        "tokens": response.tokens,
        "finish_reason": response.finish_reason,
        "seed": response.seed,
        "flags": flags_of(response.text, response.finish_reason or "stop"),
    }


def _pair_rows(run: Run, criterion: str, ranked: Mapping[str, Ranked]) -> list[dict[str, Any]]:
    weights = run.study.ranking.weights
    rows = []
    for question in study_questions(run, "train"):
        one = ranked.get(question.question_id)
        if one is None:
            continue
        if one.votes is not None:
            votes = one.votes
        elif len(one.response_ids) == len(weights):
            votes = weights
        else:
            # of an incomplete ranking only the ends are known
            votes = (weights[0], *(0 for _ in one.response_ids[2:]), weights[-1])
        listed = sorted(zip(one.response_ids, votes, strict=True))
        rows.append(
            {
                "criterion": criterion,
                "question_id": one.question_id,
                "chosen": one.response_ids[0],
                "rejected": one.response_ids[-1],
                "responses": [identity for identity, _ in listed],
                "votes": [vote for _, vote in listed],
                "margin": votes[0] - votes[-1],
            }
        )
    return rows


def _write(run: Run, stage: str, shard: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> int:
    work = Shard(run, stage_named(stage), shard, Path())
    work.write_table(rows, schema)
    _mark(run, stage, shard, work.outputs, {"imported": float(len(rows))})
    return len(rows)


def _mark(run: Run, stage: str, shard: str, outputs: dict[str, Output], metrics: dict[str, float]) -> None:
    marker = Marker(
        stage=stage,
        shard=shard,
        inputs=IMPORTED,
        outputs=outputs,
        started=time.time(),
        seconds=0.0,
        host=socket.gethostname(),
        job=None,
        attempt=1,
        metrics=metrics,
    )
    write_marker(run.folder(stage), marker)
