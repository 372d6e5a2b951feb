"""How the authors' names and ours translate: numbers of responses, names of models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.resources import resource

OWN_RATINGS = "ratings"
"""Key of the importance ratings in all_personas.json where the study's criteria are not the authors'."""


@dataclass(frozen=True)
class RatingNames:
    """What the authors' files call importance ratings: the key of all, and ours -> theirs for each criterion."""

    key: str
    criteria: Mapping[str, str]

    def key_for(self, criteria: Iterable[str]) -> str:
        """The authors' key if ``criteria`` are all theirs."""
        return self.key if set(criteria) <= self.criteria.keys() else OWN_RATINGS

    def theirs(self, criterion: str) -> str:
        return self.criteria.get(criterion, criterion)


@lru_cache(maxsize=1)
def rating_names() -> RatingNames:
    """The names in ``configs/authors/names.yaml``."""
    raw = yaml.safe_load(resource("configs/authors/names.yaml").read_text(encoding="utf-8"))
    return RatingNames(raw["ratings"], raw["criteria"])


def our_response_id(question_id: str, response_id: str, first: int = 1) -> str:
    """``"q7", "3"`` -> ``"q7.r2"``: our responses are numbered from 0 and carry their question.

    Args:
        first: number of the first response in the authors' files.
    """
    if response_id.startswith(f"{question_id}."):
        return response_id
    if response_id.isdigit():
        return f"{question_id}.r{int(response_id) - first}"
    return f"{question_id}.{response_id}"


def their_response_id(response_id: str) -> int | str:
    """``"q7.r2"`` -> 3, as the authors number responses."""
    match = re.fullmatch(r".*\.r(\d+)", response_id)
    return int(match.group(1)) + 1 if match else response_id


def policy_named(model: str, policies: Iterable[str], given: Mapping[str, str], source: Path) -> str:
    """The policy of the study that the authors' ``model`` is: as ``given``, else the one spelt alike.

    Case, punctuation and a final "model" do not matter: ``base_model`` is ``Base``.

    Raises:
        InputError: none, or several.
    """
    if model in given:
        return given[model]
    fits = [policy for policy in policies if _plain(policy) == _plain(model)]
    if len(fits) != 1:
        raise InputError(
            "no policy of the study is called like this model" if not fits else "several policies are called like it",
            file=source,
            field="model_name",
            value=model,
            remedy=f"Say which one it is: --model {model}=POLICY. Policies are: {', '.join(policies)}.",
        )
    return fits[0]


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.casefold())
    return plain.removesuffix("model") or plain
