"""What is behind a verdict: the prompt, the answer as it came, the repairs, and what was read in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.compute as pc

from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import keys_of
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.opinions import opinions_of
from modpo_hpc.judging.repair import problem_of
from modpo_hpc.judging.requests import answers_of, judging_rounds, verdict_requests, verdict_shard
from modpo_hpc.judging.settings import all_in_force
from modpo_hpc.judging.tables import JUDGE
from modpo_hpc.judging.tasks import JudgeRequest, Unparsed
from modpo_hpc.llm.ledger import Entry, Ledger
from modpo_hpc.llm.store import ledger_folder
from modpo_hpc.run import Run
from modpo_hpc.study.judging import Judge


@dataclass(frozen=True)
class Answer:
    """One raw answer of a judge, what was read in it, and what it took."""

    key: str
    text: str | None
    refusal: str | None
    finish: str | None
    model: str
    opinions: dict[str, str]
    usage: dict[str, Any]
    tries: int
    at: float


@dataclass(frozen=True)
class Inspection:
    """A judgment, from the prompt to the rows of the table. ``answers`` are the first one and those of the repairs."""

    shard: str
    rows: list[dict[str, Any]]
    prompt: str
    answers: list[Answer]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def inspect(run: Run, question_id: str, persona_id: str, wanted: Mapping[str, str] | None = None) -> list[Inspection]:
    """The judgments of a persona on a question, over all pairs of policies; ``wanted`` columns narrow them down.

    Raises:
        InputError: there is no such verdict, or it was made by a prompt or judge that the study no longer has.
    """
    found = []
    for shard in run.shard_ids("verdicts"):
        if not run.table_path("verdicts", shard).exists():
            continue
        table = run.table("verdicts", shard_ids=[shard])
        chosen = pc.and_(pc.equal(table["question_id"], question_id), pc.equal(table["persona_id"], persona_id))
        for name, value in (wanted or {}).items():
            chosen = pc.and_(chosen, pc.equal(table[name], value))
        rows = table.filter(chosen).to_pylist()
        for key in dict.fromkeys(row["key"] for row in rows if row["key"]):
            found.append(_inspection(run, shard, [row for row in rows if row["key"] == key], bytes.fromhex(key)))
    if found:
        return found
    raise InputError(
        "no verdict of this persona on this question",
        file=run.root,
        field="QUESTION PERSONA",
        value=f"{question_id} {persona_id}",
        remedy="Ids are those of the tables questions and personas; what a stop left out has no answer.",
    )


def _inspection(run: Run, shard: str, rows: list[dict[str, Any]], key: bytes) -> Inspection:
    name = rows[0].get(JUDGE)
    judges = [one for one in all_in_force(run.study.judges) if name in (None, one.name)]
    for settings in judges:
        keys = keys_of(settings)
        with Ledger(ledger_folder(run, settings)) as ledger:
            for request in _requests(run, shard, rows[0]):
                chain = _chain(ledger, keys, keys.key(request), settings)
                if any(entry.key == key for entry in chain):
                    return Inspection(shard, rows, keys.prompt(request), [_answer(entry) for entry in chain])
    raise InputError(
        "the ledger has no answer with the key of this verdict for the prompt that the study asks today",
        file=run.table_path("verdicts", shard),
        field="key",
        value=key.hex(),
        remedy="The prompt, the judge or an answer has changed since: modpo status shows what is stale.",
    )


def _requests(run: Run, shard: str, row: dict[str, Any]) -> list[JudgeRequest]:
    """What this persona was asked about this question, a request for each call."""
    study = run.study
    phase, policy_a, policy_b = verdict_shard(shard)
    calls = [load_criteria(study.criteria.files, names) for names in study.judging.phases[phase].criteria_of_calls]
    rounds = judging_rounds(run, study_questions(run, "test"))
    panels = [one for panels in rounds for one in panels if one[0].question_id == row["question_id"]]
    answers = {policy: answers_of(run, policy) for policy in (policy_a, policy_b)}
    forced = study.judging.forced_choice
    _, requests = verdict_requests(policy_a, policy_b, panels, answers, calls, study.seed, forced)
    return [one for one in requests if one.persona.persona_id == row["persona_id"]]


def _chain(ledger: Ledger, keys: Keys, key: bytes, settings: Judge) -> list[Entry]:
    chain: list[Entry] = []
    while (entry := ledger.find([key]).get(key)) is not None:
        chain.append(entry)
        problem = problem_of(entry)
        if problem is None or len(chain) > settings.repair_rounds:
            break
        key = keys.repair_key(entry.key, entry.answer or "", problem)
    return chain


def _answer(entry: Entry) -> Answer:
    opinions = {
        name: f"unparsed: {one.reason}" if isinstance(one, Unparsed) else str(one)
        for name, one in zip(entry.criteria, opinions_of(entry), strict=True)
    }
    usage = asdict(entry.usage)
    tries, at = entry.tries, entry.at
    return Answer(entry.key.hex(), entry.answer, entry.refusal, entry.finish, entry.judge, opinions, usage, tries, at)
