"""The study as one model, and the checks that need more than one section."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from modpo_hpc.section import NAME, Section
from modpo_hpc.study.alignment import Alignment
from modpo_hpc.study.data import INVENTED, Data, Models, Personas
from modpo_hpc.study.evaluation import Resources, SimulatedPart, Statistics
from modpo_hpc.study.generation import Generation
from modpo_hpc.study.human import Human
from modpo_hpc.study.judging import Criteria, Judge, Judges, Judging, Ranking, check_calls
from modpo_hpc.study.personalization import Personalization
from modpo_hpc.study.rewards import Rewards
from modpo_hpc.study.sweep import with_families
from modpo_hpc.study.toxicity import Toxicity

NAME_OF_JUDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")


class Study(Section):
    """Everything that is to be done. See ``docs/study-file.md`` for each field."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(42, ge=0)
    data: Data = Data()
    personas: Personas = Personas()
    models: Models = Models()
    generation: Generation = Generation()
    criteria: Criteria
    judge: Judges = Field(Judge(), description="a section, or a list of them: a panel")
    ranking: Ranking = Ranking()
    rewards: Rewards = Rewards()
    alignment: Alignment
    judging: Judging
    statistics: Statistics = Statistics()
    toxicity: Toxicity = Toxicity()
    human: Human = Human()
    personalization: Personalization | None = Field(None, description="not asked if the section is absent")
    shards: dict[str, int] = Field(default_factory=dict, description="stage -> number of blocks its work is cut into")
    resources: dict[str, Resources] = Field(default_factory=dict, description="stage -> what one of its shards takes")

    @property
    def judges(self) -> tuple[Judge, ...]:
        """All judges of the study, each with a name of its own."""
        judges = self.judge if isinstance(self.judge, tuple) else (self.judge,)
        return tuple(one if one.name else one.model_copy(update={"name": one.model}) for one in judges)

    @property
    def panel(self) -> tuple[str, ...]:
        """Names of the judges if there are several; tables then have a column ``judge``."""
        return tuple(one.name for one in self.judges) if len(self.judges) > 1 else ()

    @property
    def simulated(self) -> tuple[SimulatedPart, ...]:
        """The parts that the sandbox plays, unless a run imports posts or personas: see ``Run.sandbox_mark``."""
        parts: dict[SimulatedPart, bool] = {
            "judge": any(one.kind == "rules" for one in self.judges),
            "models": "sandbox" in (self.models.base, self.models.reward),
            "posts": self.data.epitome is None and self.data.file is None,
            "personas": not self.personas.surveys or INVENTED in self.personas.surveys,
        }
        return tuple(part for part, played in parts.items() if played)

    def reference(self, phase: str) -> str:
        """The policy of ``phase`` that the others are held against for non-inferiority."""
        policies = self.judging.phases[phase].policies
        if self.statistics.reference in policies:
            return self.statistics.reference
        return next((name for name in policies if self.alignment.policies[name].method == "base"), policies[0])

    @model_validator(mode="before")
    @classmethod
    def _families_of_phases(cls, raw: Any) -> Any:
        return with_families(raw) if isinstance(raw, Mapping) else raw

    @model_validator(mode="after")
    def _names_are_safe(self) -> Study:
        phases = self.judging.phases
        named = {
            "alignment.policies": [*self.alignment.policies],
            "judging.phases": [*phases],
            "toxicity.backends": [*self.toxicity.backends],
            "criteria.rank": [*self.criteria.rank],
            **{f"judging.phases.{name}.criteria": [*one.criteria] for name, one in phases.items()},
        }
        for field, names in named.items():
            for name in names:
                if not NAME.fullmatch(name):
                    raise ValueError(
                        f"{field}: the name {name!r} becomes a part of file names; it holds letters, digits, '_' and "
                        f"'-' only, at most 80, and begins with a letter or digit"
                    )
        return self

    @model_validator(mode="after")
    def _stages_are_known(self) -> Study:
        from modpo_hpc.pipeline import STAGES  # the stages are functions of the study

        known = {stage.name: stage for stage in STAGES}
        for section in ("shards", "resources"):
            for name in getattr(self, section):
                _check_known(section, name, known, "which is no stage")
        for name, blocks in self.shards.items():
            if not known[name].in_blocks:
                cut = ", ".join(one.name for one in STAGES if one.in_blocks)
                raise ValueError(f"shards.{name}: this stage is not cut into blocks of questions; these are: {cut}")
            if blocks < 1:
                raise ValueError(f"shards.{name} is {blocks}; a stage is cut into one block at least")
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Study:
        _check_names(self.judges)
        check_calls("ranking.calls", self.criteria.rank, self.ranking.calls)
        policies = self.alignment.policies
        for name, policy in policies.items():
            policy.check(name, self)
        phases = self.judging.phases
        for phase, settings in phases.items():
            for name in settings.policies:
                _check_known(f"judging.phases.{phase}.policies", name, policies, "which is not in alignment.policies")
        judged = {criterion for settings in phases.values() for criterion in settings.criteria}
        for criterion in self.statistics.non_inferiority:
            _check_known("statistics.non_inferiority", criterion, judged, "which no phase judges")
        compared = {name for settings in phases.values() for name in settings.policies}
        if self.statistics.reference:
            _check_known("statistics.reference", self.statistics.reference, sorted(compared), "which no phase judges")
        served = self.generation.server.command if self.generation.engine == "server" else ("bitsandbytes",)
        if self.models.quantization and not any("bitsandbytes" in word for word in served):
            raise ValueError(
                "models.quantization trains policies on weights in four bits, and generation.server.command does "
                "not load them so (for vLLM: --quantization bitsandbytes); take engine transformers, or add it"
            )
        if len(self.ranking.weights) != self.generation.responses_per_question:
            raise ValueError(
                f"ranking.weights has {len(self.ranking.weights)} entries, "
                f"but generation.responses_per_question is {self.generation.responses_per_question}"
            )
        if sum(self.ranking.weights) != 0:
            raise ValueError(f"ranking.weights sums to {sum(self.ranking.weights)}, not to zero")
        if self.personas.train + self.personas.test != self.personas.select:
            raise ValueError("personas.train and personas.test do not add up to personas.select")
        if self.ranking.personas_per_question > self.personas.train:
            raise ValueError("ranking.personas_per_question is more than personas.train")
        if self.judging.personas_per_question > self.personas.test:
            raise ValueError("judging.personas_per_question is more than personas.test")
        if self.judging.stop == "sequential":
            self._check_sequential()
        return self

    def _check_sequential(self) -> None:
        if self.panel:
            raise ValueError(
                "judging.stop is sequential, and judge is a panel, which is asked one judge after the other; take one "
                "judge, or judging.stop: exact"
            )
        if self.shards.get("verdicts", 1) > 1:
            raise ValueError(
                "judging.stop is sequential, which decides a pair in one shard, and shards.verdicts cuts it into "
                f"{self.shards['verdicts']}; leave it out"
            )

    @model_validator(mode="after")
    def _can_be_personal(self) -> Study:
        wanted = self.personalization
        if wanted is None:
            return self
        if wanted.preference == wanted.safety:
            raise ValueError("personalization.preference and personalization.safety name the same criterion")
        why = "for which there is no reward: it is not in criteria.rank"
        _check_known("personalization.safety", wanted.safety, self.criteria.rank, why)
        if len(self.criteria.rank) < 2:
            raise ValueError("personalization weighs rewards by several criteria, and criteria.rank has one")
        if self.rewards.scale not in ("calibrated", "vote") or self.rewards.score_with != "folds":
            raise ValueError(
                "personalization weighs calibrated rewards of responses that their models did not see: set "
                "rewards.scale to calibrated (or vote) and rewards.score_with to folds"
            )
        if self.panel:
            raise ValueError("personalization asks one judge, and the study has a panel; name one judge")
        if wanted.dial is not None and any(judge.kind != "rules" for judge in self.judges):
            raise ValueError(
                "personalization.dial stretches what the sandbox's rule judge weighs; no other judge can be dialled"
            )
        return self


def _check_known(field: str, name: str, known: Collection[str], why: str) -> None:
    if name not in known:
        raise ValueError(f"{field} names {name!r}, {why} ({', '.join(known)})")


def _check_names(judges: Sequence[Judge]) -> None:
    if not judges:
        raise ValueError("judge is an empty list; name at least one judge")
    names = [judge.name for judge in judges]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"judge has two judges called {name!r}; give each a name of its own (judge.name)")
        if len(names) > 1 and not NAME_OF_JUDGE.fullmatch(name):
            raise ValueError(f"judge.name {name!r} of a panel has other characters than letters, digits and . _ : / -")
