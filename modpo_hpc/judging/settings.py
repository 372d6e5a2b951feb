"""The judge's settings as they hold now: those of the study, with what the environment changes of pace and place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modpo_hpc.errors import InputError
from modpo_hpc.study.judging import Judge

if TYPE_CHECKING:
    from modpo_hpc.study import Study

FROM_ENVIRONMENT = (
    "base_url",
    "model",
    "window",
    "max_usd",
    "requests_per_minute",
    "tokens_per_minute",
    "executor",
    "actors",
    "unanswered",
)
PREFIX = "MODPO_JUDGE_"


def in_force(settings: Judge, environment: Mapping[str, str] = os.environ) -> Judge:
    """``settings`` with the fields that ``MODPO_JUDGE_<FIELD>`` in ``environment`` replaces.

    Raises:
        InputError: a variable holds what the field does not take.
    """
    given = {
        name: environment[PREFIX + name.upper()] for name in FROM_ENVIRONMENT if PREFIX + name.upper() in environment
    }
    try:
        return Judge.model_validate({**settings.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InputError(
            first["msg"].removeprefix("Value error, "),
            file="environment",
            field=PREFIX + name.upper(),
            value=given.get(name),
            remedy="Correct the variable, or unset it.",
        ) from None


def all_in_force(judges: Sequence[Judge], environment: Mapping[str, str] = os.environ) -> list[Judge]:
    """``in_force`` of each judge. In a panel the environment changes the pace of all, and the place of none.

    Raises:
        InputError: a variable holds what the field does not take, or would make all judges of a panel one.
    """
    for field in ("model", "base_url"):
        if len(judges) > 1 and PREFIX + field.upper() in environment:
            raise InputError(
                "the study has several judges, and this variable would make them one",
                file="environment",
                field=PREFIX + field.upper(),
                value=environment[PREFIX + field.upper()],
                remedy="Unset it, and give each judge its own in the study.",
            )
    return [in_force(judge, environment) for judge in judges]


PROMPTING = ("prompt_order", "scene", "repair_rounds")


def identity_of_judges(study: Study, environment: Mapping[str, str] = os.environ) -> list[dict[str, Any]]:
    """All that can change an answer of each judge of ``study``, as JSON values: the judge that is really asked.

    Prices, limits, pace, executor and the place of the ledger are not in it; nor is the address of a model that is
    served here, which is known by its name. The name of a judge is in it where there are several, since the tables
    of a panel say it.

    Raises:
        InputError: see ``all_in_force``.
    """
    judges = all_in_force(study.judges, environment)
    return [({"name": one.name} if study.panel else {}) | _identity(one) for one in judges]


def models_asked(study: Study, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The models of the judges that are really asked, in words for people. Raises as :func:`identity_of_judges`."""
    asked = identity_of_judges(study, environment)
    return [str(one.get("model", judge.model)) for one, judge in zip(asked, study.judges, strict=True)]


def _identity(settings: Judge) -> dict[str, Any]:
    from modpo_hpc.judging.kinds import JUDGE_KINDS, judge_kind

    kind = judge_kind(settings.kind)
    source = {} if settings.kind in JUDGE_KINDS else {"source_sha256": kind.source_sha256}
    asked = settings.model_dump(mode="json", include=set(PROMPTING))
    return {"kind": kind.name, **source, **kind.identity(settings), **asked}
