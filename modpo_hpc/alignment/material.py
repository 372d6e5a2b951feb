"""What a policy of a study is trained and measured on, joined from the tables of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from modpo_hpc.alignment.examples import Dropped, Example, join_examples, split_by_question
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.methods import Trained
from modpo_hpc.models import base_model_path
from modpo_hpc.prompts import answering_prompt, correction, response_tokens
from modpo_hpc.resident import kept
from modpo_hpc.run import Run
from modpo_hpc.study.alignment import Training

if TYPE_CHECKING:
    from modpo_hpc.judging.tasks import Criterion

LEFT_OUT, NOT_STATED = "left out by the method", "not stated"


@dataclass(frozen=True)
class Material:
    """What a policy is trained and measured on, before any model is loaded.

    Attributes:
        policy: what the study says of it.
        training, held_out: whole examples, with every response of their question.
        dropped: questions that are left out, and why.
        objectives: names of those whose gradients the policy takes apart.
    """

    policy: Trained
    training: tuple[Example, ...]
    held_out: tuple[Example, ...]
    dropped: tuple[Dropped, ...]
    objectives: tuple[str, ...] = ()


def gather_material(run: Run, policy_name: str, settings: Training) -> Material:
    """The examples of a policy of ``run``.

    Raises:
        InputError: nothing is left to train on.
    """
    from transformers import AutoTokenizer

    policy = run.study.alignment.trained_policy(policy_name)
    criteria = tuple(policy.criteria)
    model, instruction = base_model_path(run), run.study.generation.instruction
    tokenizer = kept(("tokenizer", model), lambda: AutoTokenizer.from_pretrained(model))
    table = run.table("responses", ["question_id", "response_id", "text", "finish_reason"]).to_pandas()
    responses: dict[str, dict[str, tuple[int, ...]]] = {}
    for question_id, response_id, text, reason in table.itertuples(index=False):
        ended = reason != "length"
        tokens = kept(("response", model, text, ended), partial(response_tokens, tokenizer, text, ended))
        responses.setdefault(question_id, {})[response_id] = tuple(tokens)
    questions = {one.question_id: one.text for one in study_questions(run, "train") if one.question_id in responses}
    prompts = {
        question_id: tuple(
            kept(("prompt", model, text, instruction), partial(answering_prompt, tokenizer, text, instruction))
        )
        for question_id, text in questions.items()
    }
    of_groups = {}
    if policy.group_attribute is not None:
        ids = {question: tuple(mine) for question, mine in responses.items()}
        of_groups = pairs_of_groups(run, criteria[0], policy.group_attribute, ids)
    examples, dropped = join_examples(
        (*criteria, *of_groups),
        policy.paired_criteria,
        prompts,
        responses,
        {**{criterion: _pairs(run, criterion) for criterion in criteria}, **of_groups},
        _rewards(run, policy.margin_criteria) if policy.margin_criteria else {},
        settings.max_length,
        {criterion: votes_of(run, criterion) for criterion in policy.vote_criteria},
        policy.all_responses,
    )
    training, held_out = split_by_question(examples, settings.held_out, run.study.seed)
    seed = run.seed("policies", policy_name, "examples")
    training, held_out = (list(policy.prepare(part, seed)) for part in (training, held_out))
    if policy.corrects:
        from modpo_hpc.judging.criteria import load_criteria

        told = load_criteria(run.study.criteria.files, criteria)
        texts = {**dict(zip(table["response_id"], table["text"], strict=True)), **questions}
        training, long = with_drafts(training, tokenizer, instruction, told, texts, settings.max_length)
        held_out, longer = with_drafts(held_out, tokenizer, instruction, told, texts, settings.max_length)
        dropped += [*long, *longer]
    taken = {one.question_id for one in (*training, *held_out)}
    dropped += [Dropped(one.question_id, LEFT_OUT) for one in examples if one.question_id not in taken]
    if not training:
        raise InputError(
            f"no question is left to train {policy_name} on ({reasons(dropped) or 'there are no pairs'})",
            field="alignment.training.max_length",
            value=settings.max_length,
            remedy="Raise max_length, lower held_out, or look at the pairs of its criteria.",
        )
    objectives = (policy.objectives or tuple(of_groups) or criteria) if policy.gradients_apart else ()
    return Material(policy, tuple(training), tuple(held_out), tuple(dropped), objectives)


def reasons(dropped: Sequence[Dropped]) -> dict[str, int]:
    """How many questions were dropped for each kind of reason (the text after the response's id)."""
    kinds = Counter(_kind(one.reason) for one in dropped)
    return dict(sorted(kinds.items()))


def _kind(reason: str) -> str:
    if reason.startswith("no pair of") or reason == LEFT_OUT:
        return reason
    return "too long" if "max_length" in reason else "empty response"


def _pairs(run: Run, criterion: str) -> dict[str, tuple[str, str]]:
    table = run.table("pairs", ["question_id", "chosen", "rejected"], [criterion])
    return {row["question_id"]: (row["chosen"], row["rejected"]) for row in table.to_pylist()}


def pairs_of_groups(
    run: Run, criterion: str, attribute: str, responses: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Group -> question id -> (chosen, rejected), groups being the values of ``attribute`` among the personas.

    Args:
        responses: question id -> response ids.
    """
    from modpo_hpc.judging.votes import vote

    personas = run.table("personas", ["persona_id", attribute]).to_pandas()
    group_of = {row.persona_id: getattr(row, attribute) or NOT_STATED for row in personas.itertuples()}
    columns = ["question_id", "persona_id", "criterion", "order", "state"]
    rankings = run.table("rankings", columns).to_pandas()
    rankings = rankings[rankings["criterion"] == criterion]
    groups = rankings["persona_id"].astype(str).map(group_of)
    found = {}
    for group in sorted(groups.unique()):
        name = f"{attribute} {group}"
        pairs, _ = vote(
            f"{criterion} of {name}", responses, rankings[groups == group], run.study.ranking.weights, run.study.seed
        )
        found[name] = {str(one["question_id"]): (str(one["chosen"]), str(one["rejected"])) for one in pairs}
    return found


def votes_of(run: Run, criterion: str) -> dict[str, float]:
    """Votes of the responses of each question that has a pair, in mean ranks above the middle one.

    A response that every persona puts first of five has 2, one that all put last -2. Rankings that could not be read
    cast no vote, so they draw a question towards 0.
    """
    ranking, judges = run.study.ranking, max(1, len(run.study.panel))
    best, worst = max(ranking.weights), min(ranking.weights)
    rank = (best - worst) / (len(ranking.weights) - 1) * ranking.personas_per_question * judges
    table = run.table("pairs", ["responses", "votes"], [criterion]).to_pylist()
    return {one: vote / rank for row in table for one, vote in zip(row["responses"], row["votes"], strict=True)}


def _rewards(run: Run, criteria: Sequence[str]) -> dict[str, dict[str, float]]:
    table = run.table("scores", ["response_id", "criterion", "reward"]).to_pandas()
    found: dict[str, dict[str, float]] = {}
    for criterion in criteria:
        rows = table[table["criterion"] == criterion]
        found[criterion] = dict(zip(rows["response_id"], rows["reward"].astype(float), strict=True))
        if rows.empty or not rows["reward"].notna().all():
            raise InputError(
                "the stage scores has no reward of this criterion for some responses",
                file=run.folder("scores"),
                field="criterion",
                value=criterion,
                remedy=f"Make the scores again: modpo rerun {run.quoted} scores",
            )
    return found


def with_drafts(
    examples: Sequence[Example],
    tokenizer: Any,
    instruction: str,
    criteria: Sequence[Criterion],
    texts: Mapping[str, str],
    max_length: int,
) -> tuple[list[Example], list[Dropped]]:
    """``examples``, whose second response is the draft, with what a policy is asked that is to correct it.

    Args:
        criteria: one for each pair of an example; those that have a pair are told.
        texts: question id and response id -> text.
        max_length: tokens of prompt and response; a longer example is dropped.
    """
    made, dropped = [], []
    for example in examples:
        told = [one for one, pair in zip(criteria, example.pairs, strict=True) if pair]
        asked = correction(texts[example.question_id], texts[example.response_ids[1]], told)
        tree = Tree(tuple(answering_prompt(tokenizer, asked, instruction)), example.tree.responses)
        if tree.depth > max_length:
            reason = f"{example.response_ids[0]} has {tree.depth} tokens with its prompt and a draft, more than"
            dropped.append(Dropped(example.question_id, f"{reason} max_length {max_length}"))
        else:
            made.append(replace(example, tree=tree))
    return made, dropped
