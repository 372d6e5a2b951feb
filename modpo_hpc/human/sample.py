"""The questions that people judge: a sample that keeps the outcomes of the whole test set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from modpo_hpc.errors import InputError
from modpo_hpc.human.active import design, draw
from modpo_hpc.personas.quota import allocate, draw_places
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import Study

STRATA = ("overall", "safety")
WORDS = {1: "A", 0: "tie", -1: "B"}


@dataclass(frozen=True)
class PolicyPair:
    """What is compared: two policies of a phase. ``a`` is the one whose wins are counted as A."""

    phase: str
    a: str
    b: str


@dataclass(frozen=True)
class Sample:
    """Questions for people to judge.

    ``profile``: outcomes of each criterion, in the test set and in the sample. ``inclusion``: probability of every
    question of the test set to be drawn, had none been labelled before; what is estimated is weighted by it.
    """

    comparison: PolicyPair
    questions: tuple[str, ...]
    strata: tuple[str, ...]
    profile: tuple[Mapping[str, object], ...]
    seed: int
    inclusion: Mapping[str, float]

    def as_json(self) -> dict[str, object]:
        """The sample as a JSON object."""
        return asdict(self)


def choose_comparison(study: Study, phase: str | None, policies: Sequence[str]) -> PolicyPair:
    """The comparison asked for; without one, the first two policies of the phase judged on overall preference.

    The base policy is B, as the one that the others are held against.

    Raises:
        InputError: no such phase or policy.
    """
    phases = study.judging.phases
    if phase is None:
        fits = [
            name for name, one in phases.items() if "overall" in one.criteria and set(policies) <= set(one.policies)
        ]
        phase = fits[0] if fits else list(phases)[-1]
    if phase not in phases:
        raise InputError(
            "there is no such phase", field="--phase", value=phase, remedy=f"Phases are: {', '.join(phases)}."
        )
    known = phases[phase].policies
    if policies:
        if strange := [name for name in policies if name not in known]:
            raise InputError(
                f"phase {phase} has no such policy",
                field="--policies",
                value=strange[0],
                remedy=f"Its policies are: {', '.join(known)}.",
            )
        if len(set(policies)) != 2:
            raise InputError("two policies are compared", field="--policies", remedy="Name two different ones.")
        return PolicyPair(phase, *policies)
    base = next((name for name in known if study.alignment.policies[name].is_baseline), known[0])
    other = next(name for name in known if name != base)
    return PolicyPair(phase, other, base)


def llm_outcomes(run: Run, comparison: PolicyPair) -> pd.DataFrame:
    """Who won each test question by the majority of its personas: questions x criteria, 1 for A, -1 for B, 0 a tie.

    Raises: as :func:`llm_shares`.
    """
    shares = llm_shares(run, comparison)
    return (shares > 0.5).astype(int) - (shares < 0.5).astype(int)


def llm_shares(run: Run, comparison: PolicyPair) -> pd.DataFrame:
    """Share of the personas' votes that A has on each test question, ties as halves: questions x criteria.

    After a sequential stop the questions are those that were judged by every criterion.

    Raises:
        IncompleteError: the verdicts are not finished.
        InputError: there are none for these two policies.
    """
    pair = [comparison.a, comparison.b]
    judged = {".".join([comparison.phase, *order]) for order in (pair, pair[::-1])}
    shard_ids = [shard for shard in run.shard_ids("verdicts") if shard.rpartition(".")[0] in judged]
    if not shard_ids:
        raise InputError(
            f"{' and '.join(pair)} are not compared in this phase",
            field="--phase",
            value=comparison.phase,
            remedy="See the study.",
        )
    table = run.table("verdicts", ["policy_a", "question_id", "criterion", "winner"], shard_ids).to_pandas()
    table = table[table["winner"].astype(str) != "not_asked"]
    worth = table["winner"].astype(str).map({"A": 1.0, "B": 0.0, "tie": 0.5})
    turned = table["policy_a"].astype(str) == comparison.b
    worth[turned] = 1 - worth[turned]
    keys = [table["question_id"].astype(str), table["criterion"].astype(str)]
    # a vote that could not be read is none, and a question without votes is a draw; one that was not asked is not there
    return worth.groupby(keys).mean().fillna(0.5).unstack().dropna().round(12)


def draw_sample(outcomes: pd.DataFrame, comparison: PolicyPair, size: int, seed: int) -> Sample:
    """Draw ``size`` questions so that the outcomes of overall preference and safety keep their shares.

    Both criteria keep their rates of A, B and ties, and as far as whole numbers allow so does each combination.

    Args:
        outcomes: as from ``llm_outcomes``; the criteria of ``STRATA`` that it has are the strata, else all it has.

    Raises:
        InputError: there are fewer questions.
    """
    if size > len(outcomes):
        raise _too_many(size, f"the test set has {len(outcomes)}")
    strata = tuple(name for name in STRATA if name in outcomes) or tuple(outcomes.columns)
    ordered = outcomes.rename(str).sort_index()
    cells = [("all", *(WORDS[int(value)] for value in row)) for row in ordered[list(strata)].to_numpy()]
    rng = rng_of(seed, "human", "sample", comparison.a, comparison.b)
    allocation = allocate(Counter(cells), ("all", *strata), {"all": size}, {}, rng)
    chosen = ordered.index[draw_places(cells, allocation.counts, rng)]
    picked = outcomes[outcomes.index.astype(str).isin(chosen)]
    share = size / len(outcomes)
    return Sample(
        comparison,
        tuple(str(one) for one in picked.index),
        strata,
        profile(outcomes, picked),
        seed,
        {str(question): share for question in outcomes.index},
    )


def profile(outcomes: pd.DataFrame, picked: pd.DataFrame) -> tuple[Mapping[str, object], ...]:
    """Shares of A, ties and B under each criterion, among all and among those ``picked``."""
    return tuple(
        {
            "criterion": name,
            **{
                f"{words}_{where}": round(float((part[name] == value).mean()), 4)
                for value, words in WORDS.items()
                for where, part in (("all", outcomes), ("sample", picked))
            },
        }
        for name in outcomes.columns
    )


def draw_next(
    outcomes: pd.DataFrame, shares: pd.Series, labels: pd.Series, comparison: PolicyPair, size: int, seed: int
) -> tuple[Sample, float]:
    """A sample of the questions whose labels would narrow the interval most, and what it saves against a random one.

    Args:
        outcomes: as from :func:`llm_outcomes`.
        shares: votes for A under the criterion that the sample is for, by question; its name is the criterion.
        labels: people's labels under it (1, .5, 0), by question, of those that are labelled.

    Raises:
        InputError: fewer questions are left.
    """
    predicted = shares.to_numpy(float)
    labelled = shares.index.isin(labels.index)
    left = int((~labelled).sum())
    if size > left:
        raise _too_many(size, f"{left} are not labelled yet")
    residuals = labels.reindex(shares.index[labelled]).to_numpy(float) - predicted[labelled]
    planned = design(predicted, labelled, residuals, size)
    places = draw(planned.inclusion, ~labelled, rng_of(seed, "human", "next", comparison.a, comparison.b, len(labels)))
    questions = tuple(str(one) for one in shares.index[places])
    inclusion = {str(name): float(one) for name, one in zip(shares.index, planned.inclusion, strict=True)}
    picked = outcomes.loc[list(questions)]
    return (
        Sample(comparison, questions, (str(shares.name),), profile(outcomes, picked), seed, inclusion),
        planned.saving,
    )


def _too_many(size: int, there: str) -> InputError:
    return InputError(
        f"{size} questions are wanted, but {there}", field="--questions", value=size, remedy="Ask for fewer."
    )
