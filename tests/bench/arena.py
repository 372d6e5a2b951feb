"""Every method over several criteria on the same pairs, judged by the same judge: one table.

    python -m tests.bench.arena [--study configs/arena.yaml] [--run runs/arena]

Runs the study (or goes on with it; nothing is left to do where the run is whole) and prints, for each policy, the mean
reward of its answers, the hypervolume of that point above the base policy's, its share of the votes against two
anchors, the worst group of personas against the first of them, and CPU seconds; then the families, each method at
several weights, with hypervolume, range and Kendall's tau; the hypervolume of policies that stand for a front together;
and the differences that published claims are about. Intervals are 95%: rewards by questions drawn anew, shares by
questions and personas drawn anew. One run is one seed: they say nothing of another training. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from modpo_hpc.evaluation.pareto import hypervolume
from modpo_hpc.pipeline import stage_named
from modpo_hpc.report.fronts import read_fronts
from modpo_hpc.run import Run
from tests.bench.measuring import machine, table_head, table_row, tell

ANCHORS = ("Base", "MODPO")
GROUPS, FEWEST = ("population", "age_group", "gender", "primary_ethnicity"), 5
COUNTED = ("rewards", "scores", "policies", "conditioned", "soups", "answers")
DRAWS = 2000
FRONTS = {
    "two specialists": ("DPO_Empathy", "DPO_Safety"),
    "the same and their soup": ("DPO_Empathy", "Soup", "DPO_Safety"),
    "the three of HaM": ("HaM", "HaM_2", "HaM_3"),
}
CLAIMS = {
    "margins do something": ("MODPO", "MODPO_Zero"),
    "decoding is better than merging": ("MOD", "Soup"),
    "all responses teach more than pairs": ("Listwise", "Joint_DPO"),
    "the constraint makes safe": ("SafeDPO", "DPO_Empathy"),
    "averting conflict is better than weighing": ("RACO", "Weighted_DPO"),
    "choosing at test time is worth a training": ("Best_of_8", "MODPO"),
    "the worst group gains": ("Group_Robust", "DPO_Empathy"),
    "a corrector betters the model that it learned from": ("Corrector", "Base"),
    "a corrector betters what is aligned already": ("MODPO_Corrected", "MODPO"),
}


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="configs/arena.yaml")
    parser.add_argument("--run", type=Path, default=Path("runs/arena"))
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "modpo_hpc", "run", arguments.study, "--run", str(arguments.run)]
    if code := subprocess.run(command).returncode:
        return code
    arena = Arena(Run.open(arguments.run))
    print(arena.table(), arena.families(), arena.fronts(), arena.claims(), sep="\n\n")
    tell("arena", seed=arena.run.study.seed, **arena.figures(), machine=machine())
    return 0


class Arena:
    """The tables of a finished run of the study."""

    def __init__(self, run: Run) -> None:
        self.run = run
        (phase,) = run.study.judging.phases.values()
        self.criteria, self.policies = phase.criteria, phase.policies
        rewards = run.table("answer_scores").to_pandas()
        self.rewards = {
            criterion: mine.pivot(index="question_id", columns="policy", values="reward")
            for criterion, mine in rewards.groupby("criterion")
        }
        self.votes = run.table("verdicts").to_pandas()
        self.personas = run.table("personas").to_pandas().set_index("persona_id")
        questions = len(self.rewards[self.criteria[0]])
        self.drawn = np.random.default_rng(run.study.seed).integers(questions, size=(DRAWS, questions))

    def reward(self, criterion: str, policy: str, less: str | None = None) -> Interval:
        """Mean reward of a policy's answers, or how much more it is than another's to the same questions."""
        table = self.rewards[criterion]
        values = table[policy].to_numpy() - (table[less].to_numpy() if less else 0.0)
        return _interval(float(values.mean()), values[self.drawn].mean(axis=1))

    def volume(self, *policies: str) -> Interval:
        """Hypervolume of the mean rewards of ``policies`` above those of the first anchor, to the same questions."""
        names = [*policies, ANCHORS[0]]
        tables = [self.rewards[one][names].to_numpy() for one in self.criteria]
        means = np.array([table.mean(axis=0) for table in tables]).T
        drawn = np.array([table[self.drawn].mean(axis=1) for table in tables]).transpose(1, 2, 0)
        found = [hypervolume(one[:-1], one[-1]) for one in (means, *drawn)]
        return _interval(found[0], np.array(found[1:]))

    def share(self, criterion: str | None, policy: str, anchor: str, members: Sequence[str] = ()) -> Interval | None:
        """Share of the votes of all personas, or of ``members``, that go to ``policy``; a tie is half a vote."""
        won = self._won(criterion, policy, anchor, members)
        if won is None:
            return None
        there = (~np.isnan(won)).astype(float)
        won = np.nan_to_num(won)
        rng = np.random.default_rng(self.run.study.seed)
        drawn = []
        for _ in range(DRAWS):
            rows, columns = (rng.multinomial(size, np.full(size, 1 / size)) for size in won.shape)
            drawn.append(float(rows @ won @ columns / max(1e-9, rows @ there @ columns)))
        return _interval(float(won.sum() / there.sum()), np.array(drawn))

    def _won(self, criterion: str | None, policy: str, anchor: str, members: Sequence[str]) -> np.ndarray | None:
        votes = self.votes
        mine = votes[
            ((votes["policy_a"] == policy) & (votes["policy_b"] == anchor))
            | ((votes["policy_a"] == anchor) & (votes["policy_b"] == policy))
        ]
        mine = mine[mine["winner"].isin(["A", "B", "tie"])]
        if criterion is not None:
            mine = mine[mine["criterion"] == criterion]
        if len(members):
            mine = mine[mine["persona_id"].isin(members)]
        if mine.empty:
            return None
        ahead = np.where(mine["winner"] == "tie", 0.5, (mine["winner"] == "A") == (mine["policy_a"] == policy))
        cells = pd.DataFrame({"q": mine["question_id"].astype(str), "p": mine["persona_id"].astype(str), "won": ahead})
        table: np.ndarray = cells.pivot_table(index="q", columns="p", values="won").to_numpy()
        return table

    def worst_group(self, policy: str) -> tuple[str, Interval] | None:
        """The group of test personas with the lowest share for ``policy`` against the first anchor, by all criteria."""
        test = self.personas[self.personas["split"] == "test"]
        found = {}
        for attribute in GROUPS:
            for group, members in test.groupby(attribute):
                if len(members) >= FEWEST and (share := self.share(None, policy, ANCHORS[0], list(members.index))):
                    found[str(group)] = share
        return min(found.items(), key=lambda one: one[1].value) if found else None

    def cost(self, *policies: str) -> tuple[float, float]:
        """CPU seconds of the policies' own training and answers, and of all they rest on from the reward models on."""
        seconds: dict[tuple[str, str], float] = {}
        queue = [("answers", shard) for shard in self.run.shard_ids("answers")]
        queue = [one for one in queue if one[1].rpartition(".")[0] in policies]
        while queue:
            stage, shard = queue.pop()
            if (stage, shard) in seconds or stage not in COUNTED:
                continue
            seconds[stage, shard] = self.run.done(stage)[shard].metrics["cpu_seconds"]
            found = stage_named(stage)
            needs = found.needs_of_item(self.run.study, found.item(shard))
            queue += [(need, one) for need, which in needs.items() for one in which or ()]
        mine = {shard for _, shard in seconds if {shard, shard.rpartition(".")[0]} & {*policies}}
        own = sum(value for (_, shard), value in seconds.items() if shard in mine)
        return own, sum(seconds.values())

    def table(self) -> str:
        """One row a policy."""
        votes = [f"votes against {anchor}, {one}" for anchor in ANCHORS for one in self.criteria]
        rows = table_head(
            *("policy", *(f"reward, {one}" for one in self.criteria), "hypervolume", *votes),
            *(f"worst group against {ANCHORS[0]}", "CPU s, own", "CPU s, with what it rests on"),
        )
        for policy in self.policies:
            shares = [self.share(one, policy, anchor) for anchor in ANCHORS for one in self.criteria]
            worst = self.worst_group(policy)
            own, all_of_it = self.cost(policy)
            cells = [policy, *(str(self.reward(one, policy)) for one in self.criteria), str(self.volume(policy))]
            cells += [str(share or "") for share in shares]
            cells += [f"{worst[1]} ({worst[0]})" if worst else "", f"{own:.0f}", f"{all_of_it:.0f}"]
            rows.append(table_row(cells))
        return "\n".join(rows)

    def families(self) -> str:
        """One row a family: volume above the base policy and beside the first family, least range, least tau, cost."""
        tables = read_fronts(self.run)
        rows = table_head("family", "weights", "hypervolume", "to the first's", "least range", "least tau", "CPU s")
        for family in tables["families"]:
            name = family["family"]
            mine = [one for one in tables["ranges"] if one["family"] == name]
            policies = {one["policy"] for one in tables["fronts"] if one["family"] == name}
            volume = Interval(family["hypervolume"], family["low"], family["high"])
            least = (min(mine, key=lambda one, of=of: one[of]) for of in ("share", "tau"))  # type: ignore[misc]
            shown = [_stated(family, "ratio"), *map(_stated, least, ("share", "tau"))]
            rows.append(table_row([name, family["policies"], volume, *shown, f"{self.cost(*policies)[1]:.0f}"]))
        return "\n".join(rows)

    def fronts(self) -> str:
        """One row for policies that stand for a front together."""
        rows = table_head("front", "policies", "hypervolume")
        rows += [table_row([name, ", ".join(which), self.volume(*which)]) for name, which in FRONTS.items()]
        return "\n".join(rows)

    def claims(self) -> str:
        """What claims are about: rewards of one policy less those of another, to the same questions."""
        rows = table_head("claim", "policies", *(f"reward, {one}" for one in self.criteria))
        for claim, (policy, less) in CLAIMS.items():
            differences = [self.reward(one, policy, less) for one in self.criteria]
            rows.append(table_row([claim, f"{policy} less {less}", *differences]))
        return "\n".join(rows)

    def figures(self) -> dict[str, object]:
        """Mean rewards, hypervolumes and CPU seconds."""
        return {
            "rewards": {
                policy: {one: round(self.reward(one, policy).value, 4) for one in self.criteria}
                for policy in self.policies
            },
            "hypervolume": {policy: round(self.volume(policy).value, 4) for policy in self.policies},
            "cpu_seconds": {policy: round(self.cost(policy)[1], 1) for policy in self.policies},
        }


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _stated(row: Mapping[str, float], name: str) -> Interval:
    """A figure of the run's own tables, with its interval there."""
    return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


if __name__ == "__main__":
    sys.exit(main())
