"""Changes to a finished study, and what each must make again at least, worked out by hand.

``again`` names what a plan must show as made again or new, by stage, ``*`` for all shards; ``in_the_end`` what was
really made anew where results upstream came out the same, byte for byte, so that the rest could stay.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Raw = dict[str, Any]
Shards = Mapping[str, tuple[str, ...]]
ALL = ("*",)
END: Shards = {"statistics": ALL, "report": ALL}


@dataclass(frozen=True)
class StudyChange:
    """One change: ``edit`` changes the raw study or a file in its folder."""

    name: str
    edit: Callable[[Raw, Path], object]
    again: Shards
    in_the_end: Shards | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def verdicts_with(policy: str, others: tuple[str, ...]) -> tuple[str, ...]:
    order = ("Base", "DPO_Empathy", "Soup", "MODPO", "Joint")
    pairs = (sorted((policy, other), key=order.index) for other in others)
    return tuple(f"phase1.{a}.{b}.0" for a, b in pairs)


def of_policy(policy: str, others: tuple[str, ...]) -> Shards:
    """A policy that comes out otherwise: itself, its answers, the verdicts of its pairs, and the end."""
    return {
        "policies": (policy,),
        "answers": (f"{policy}.0",),
        "verdicts": verdicts_with(policy, others),
        "toxicity": (f"words.{policy}",),
        **END,
    }


def _set(*path: str, value: Any) -> Callable[[Raw, Path], object]:
    def edit(raw: Raw, _: Path) -> None:
        place = raw
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value

    return edit


def _new_policy(raw: Raw, _: Path) -> None:
    raw["alignment"]["policies"]["Joint"] = {"method": "joint_dpo", "criteria": {"empathy": 0.5, "safety": 0.5}}
    raw["judging"]["phases"]["phase1"]["policies"].append("Joint")


def _new_phase(raw: Raw, _: Path) -> None:
    raw["judging"]["phases"]["phase2"] = {"policies": ["Base", "MODPO"], "criteria": ["manner"]}


def _words_of_a_criterion(_: Raw, folder: Path) -> None:
    path = folder / "criteria.yaml"
    known = yaml.safe_load(path.read_text())
    known["criteria"]["empathy"]["definition"] += " In few words."
    path.write_text(yaml.safe_dump(known, sort_keys=False))


def _comment_in_criteria(_: Raw, folder: Path) -> None:
    path = folder / "criteria.yaml"
    path.write_text(f"# looked through once more\n{path.read_text()}")


def _text_of_a_persona(_: Raw, folder: Path) -> None:
    """Another age for one participant: the words of a persona, nothing that the rule judge weighs."""
    path = folder / "campus.csv"
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    column = next(name for name in rows[0] if "age" in name.lower().split())
    values = sorted({row[column] for row in rows})
    for row in rows:
        row[column] = values[(values.index(row[column]) + 1) % len(values)]
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


CRITERIA = ("empathy", "safety", "manner")
# The rule judge says the same, but each row names the prompt that it answers. The pairs come out as they were.
ASKED_ANEW: Shards = {"rankings": ALL, "pairs": ALL, "verdicts": ALL, **END}
TRAINED = {"reward_trials": ALL, "rewards": ALL, "scores": ALL}
DOWN_FROM_PAIRS: Shards = {
    **TRAINED, "policies": ALL, "soups": ALL, "answers": ("DPO_Empathy.0", "DPO_Safety.0", "Soup.0", "MODPO.0"),
    "verdicts": ALL, "toxicity": ("words.DPO_Empathy", "words.DPO_Safety", "words.Soup", "words.MODPO"), **END,
}  # fmt: skip
DOWN_FROM_RANKINGS: Shards = {"rankings": ALL, "pairs": ALL, **DOWN_FROM_PAIRS}
OTHERS = ("Base", "DPO_Empathy", "Soup")

CHANGES: tuple[StudyChange, ...] = (
    StudyChange(
        "beta of one policy",
        lambda raw, _: raw["alignment"]["policies"]["MODPO"].update(training={"beta": 2.0}),
        of_policy("MODPO", OTHERS),
    ),
    StudyChange("a new policy", _new_policy, of_policy("Joint", (*OTHERS, "MODPO"))),
    StudyChange("a new phase", _new_phase, {"verdicts": ("phase2.Base.MODPO.0",), **END}),
    StudyChange(
        "one more criterion",
        _set("criteria", "rank", value=[*CRITERIA, "quality"]),
        {**DOWN_FROM_RANKINGS, "rewards": ALL},
        {
            "rankings": ALL,
            "pairs": ALL,
            "reward_trials": ("quality.0",),
            "rewards": ("quality.fold0", "quality.fold1", "quality.final"),
            "scores": ("quality.0",),
            **END,
        },
    ),
    StudyChange("statistics.alpha", _set("statistics", "alpha", value=0.01), END),
    StudyChange("resources", _set("resources", "report", value={"minutes": 7, "memory_gb": 3.0}), {}),
    StudyChange("micro-batch", _set("alignment", "training", "micro_batch_size", value=16), {}),
    StudyChange(
        "the words of a criterion",
        _words_of_a_criterion,
        DOWN_FROM_RANKINGS,
        ASKED_ANEW,
    ),
    StudyChange("a comment in the file of criteria", _comment_in_criteria, {}),
    StudyChange(
        "the texts of personas",
        _text_of_a_persona,
        {"personas": ALL, **DOWN_FROM_RANKINGS},
        None,  # another choice of personas follows from other ages: their rankings differ, and all that follows
    ),
    StudyChange(
        "reward scale",
        _set("rewards", "scale", value="zscore"),
        {"scores": ALL, **of_policy("MODPO", OTHERS)},
    ),
    StudyChange(
        "how the judge is asked",
        _set("judge", "scene", value="You compare replies to posts."),
        DOWN_FROM_RANKINGS,
        ASKED_ANEW,
    ),
    StudyChange(
        "toxicity backend",
        _set("toxicity", "backends", value={"words": {"kind": "words"}, "list": {"kind": "words"}}),
        {
            "toxicity": tuple(f"list.{one}" for one in ("Base", "DPO_Empathy", "DPO_Safety", "Soup", "MODPO")),
            "report": ALL,
        },
    ),
    StudyChange(
        "use_test raised",
        _set("data", "use_test", value=8),
        {"answers": ALL, "verdicts": ALL, "toxicity": ALL, **END},
    ),
    StudyChange(
        "vote weights",
        _set("ranking", "weights", value=[4, 1, 0, -1, -4]),
        {"pairs": ALL, **DOWN_FROM_PAIRS},
        None,
    ),
    StudyChange(
        "blocks of rankings",
        _set("shards", "rankings", value=3),
        DOWN_FROM_RANKINGS,
        {"rankings": ALL, "pairs": ALL, "report": ALL},
    ),
    StudyChange(
        "the seed",
        _set("seed", value=43),
        {
            "questions": ALL, "personas": ALL, "models": ALL, "responses": ALL, **DOWN_FROM_RANKINGS, "answers": ALL,
            "toxicity": ALL,
        },
        None,
    ),
)  # fmt: skip
