"""Sections of the study on criteria, persona rankings and head-to-head judging."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from modpo_hpc.prompts import SCENE
from modpo_hpc.section import InputPath, OnDisk, Section, no_repeats
from modpo_hpc.study.endpoint import Endpoint
from modpo_hpc.study.serving import Serving

GENERIC = "generic"
"""Model of a judge of kind rules that is to have an opinion by any criterion, rules or not."""
JudgeKindName = Annotated[
    str,
    AfterValidator(lambda name: str(Path(name).expanduser().resolve()) if name.endswith(".py") else name),
    OnDisk(suffix=".py"),
]
"""A kind of judge, or the file that brings one."""


class JudgeServer(Serving):
    """The server that the judge ``server`` runs on, one on each GPU, for as long as a shard runs.

    In ``command``, ``{model}`` is ``judge.model``, ``{dtype}`` the study's ``models.dtype``.
    """

    command: tuple[str, ...] = Field(
        (
            *("vllm", "serve", "{model}", "--served-model-name", "judge", "--dtype", "{dtype}"),
            *("--enable-prefix-caching", "--host", "{host}", "--port", "{port}"),
        ),
        description="command line; {host} and {port} are filled in at every start",
    )
    name: str = Field("judge", description="model name in requests")


class Judge(Endpoint):
    """Who plays the persona, how it is asked, and what it may cost. A list of such sections is a panel of judges.

    ``base_url``, ``model``, ``window``, ``max_usd``, ``requests_per_minute``, ``tokens_per_minute``, ``executor`` and
    ``unanswered`` give way to environment variables (``MODPO_JUDGE_WINDOW``, ...), so that a run can go on at another
    pace.

    Every judge of a panel is asked everything, and all their votes count alike.
    """

    name: str = Field("", description="what the tables of a panel call this judge; its model if empty")
    kind: JudgeKindName = Field("rules", description="rules, openai, batch, server; or a Python file, or a package's")
    model: str = Field(
        "rules", description="model name as the endpoint knows it; of kind rules: rules, or generic for any criterion"
    )
    temperature: float | None = Field(0.0, ge=0, description="null leaves it to the model")
    max_tokens: int = Field(1024, ge=1, description="most tokens of one answer, thoughts included")
    snapshot: str | None = Field(None, description="refuse answers of a model that calls itself otherwise")
    sampling_seed: int | None = Field(None, description="sent as 'seed' where set")
    reasoning_effort: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict, description="more fields of the request body, as they are")
    prompt_order: Literal["shared_prefix", "criteria_last"] = Field(
        "shared_prefix", description="persona and criteria first, which servers compute once; or the criteria last"
    )
    scene: str = Field(SCENE, min_length=1, description="what the judge is told of the replies before it")
    repair_rounds: int = Field(1, ge=0, le=5, description="times to ask again after an answer that cannot be read")
    ledger: InputPath | None = Field(None, description="folder of raw answers that studies share; DIR/ledger if empty")
    structured: Literal["json_schema", "json_object", "none"] = Field(
        "json_schema", description="form of the answer to ask the endpoint for; weaker ones are fallen back to"
    )
    server: JudgeServer = JudgeServer()
    executor: Literal["inline", "ray"] = Field("inline", description="calls from this process, or from Ray actors")
    actors: int = Field(2, ge=1, description="Ray actors that send calls")

    @model_validator(mode="before")
    @classmethod
    def _default_model(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("kind", "rules") in ("openai", "batch") and not raw.get("model"):
            return {**raw, "model": "gpt-5"}
        return raw


def _form_of_judge(given: Any) -> str:
    return SEVERAL if isinstance(given, (list, tuple)) else ONE


ONE, SEVERAL = "(one judge)", "(several judges)"
Judges = Annotated[
    Annotated[Judge, Tag(ONE)] | Annotated[tuple[Judge, ...], Tag(SEVERAL)], Discriminator(_form_of_judge)
]
"""What ``judge`` in a study may be: one section, or a list of them."""


Calls = Literal["together", "separate"] | tuple[tuple[str, ...], ...]


def criteria_of_calls(criteria: tuple[str, ...], calls: Calls) -> tuple[tuple[str, ...], ...]:
    """The criteria of each call that asks by ``criteria``."""
    if isinstance(calls, tuple):
        return calls
    return (criteria,) if calls == "together" else tuple((one,) for one in criteria)


def check_calls(field: str, criteria: tuple[str, ...], calls: Calls) -> None:
    """Refuse ``calls``, the value of ``field``, that do not ask by each of ``criteria`` once.

    Raises:
        ValueError: they do not.
    """
    asked = criteria_of_calls(criteria, calls)
    if not all(asked) or sorted(name for call in asked for name in call) != sorted(criteria):
        raise ValueError(
            f"{field} is {[list(call) for call in asked]}; a list of calls names every criterion once: "
            f"{', '.join(criteria)}"
        )


class Ranking(Section):
    """Training personas rank the responses of each training question."""

    personas_per_question: int = Field(50, ge=1)
    weights: tuple[int, ...] = Field((10, 5, 0, -5, -10), description="vote of each rank, best first; sums to zero")
    calls: Calls = Field(
        "together",
        description="as in phases; a criterion that comes later and has its own call leaves the others as they are",
    )


class Phase(Section):
    """One round of head-to-head judging: every pair of ``policies``, or each against the anchors."""

    policies: tuple[str, ...] = Field(min_length=2, description="names of policies, or of families of alignment.sweep")
    anchors: tuple[str, ...] | None = Field(
        None, description="policies of the phase that all are judged against, and nobody else; empty: every pair"
    )
    criteria: tuple[str, ...] = Field(min_length=1)
    calls: Calls = Field(
        "together",
        description="all criteria in one call, or a call for each, so that none primes another; or a list of calls, "
        "each a list of criteria",
    )

    @property
    def criteria_of_calls(self) -> tuple[tuple[str, ...], ...]:
        """The criteria of each call on a comparison."""
        return criteria_of_calls(self.criteria, self.calls)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every pair (A, B) that is judged, in the order of ``policies``."""
        return judged_pairs(self.policies, self.anchors or ())

    _no_repeats = field_validator("policies", "criteria")(no_repeats)

    @model_validator(mode="after")
    def _anchors_are_judged(self) -> Phase:
        check_calls("calls", self.criteria, self.calls)
        for name in no_repeats(self.anchors or ()):
            if name not in self.policies:
                raise ValueError(f"anchors names {name!r}, which is not among the policies of the phase")
        return self


def judged_pairs(policies: Sequence[str], anchors: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """The pairs of ``policies`` in their order; with ``anchors`` only those that have one of them."""
    return tuple((a, b) for a, b in combinations(policies, 2) if not anchors or a in anchors or b in anchors)


class Sequential(Section):
    """What ``judging.stop: sequential`` goes by, besides ``statistics.alpha``."""

    questions_per_round: int = Field(10, ge=1, description="asked before it is looked whether a pair is decided")
    margin: float | None = Field(
        None,
        gt=0,
        lt=0.5,
        description="a mean share of votes this near to one half is a decision, too; stated before verdicts are seen",
    )
    futility: float | None = Field(
        3.0,
        gt=0,
        description="a pair is left open early that even so many standard errors more would not decide; null: never",
    )


class Repeats(Section):
    """Comparisons that are asked again when all are judged: how far the judge agrees with itself."""

    comparisons: int = Field(20, ge=2, description="of each pair of policies, drawn from those that were judged")
    samples: int = Field(2, ge=1, description="times that each of them is asked again as it was")
    swapped: bool = Field(True, description="ask each once more with the two answers in the other order")

    @property
    def calls(self) -> int:
        """Calls that asking one comparison again takes."""
        return self.samples + self.swapped


class Judging(Section):
    """Test personas judge every pair of policies."""

    personas_per_question: int = Field(50, ge=2, description="the same on each question; drawn anew if sequential")
    forced_choice: bool = Field(False, description="A or B: a judge that answers tie is asked again, then unparsed")
    stop: Literal["none", "exact", "sequential"] = Field(
        "none", description="ask no more of a question whose winner is certain, or of a pair that is decided"
    )
    sequential: Sequential = Sequential()
    repeats: Repeats | None = Field(None, description="ask a sample of the verdicts again; empty: none")
    phases: dict[str, Phase] = Field(min_length=1)


class Criteria(Section):
    """The criteria of the study: files of definitions, and the names used to rank responses."""

    files: tuple[Annotated[Path, OnDisk(keeps_name=True)], ...] = (
        Path("configs/criteria/therapeutic.yaml"),
        Path("configs/criteria/gricean.yaml"),
    )
    rank: tuple[str, ...] = Field(min_length=1, description="criteria that training personas rank by")

    _no_repeats = field_validator("rank")(no_repeats)
