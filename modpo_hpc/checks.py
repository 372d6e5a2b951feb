"""What can be found wrong before anything is made or queued: files of the study that are not there or unusable."""

from __future__ import annotations

from pathlib import Path

from modpo_hpc.errors import InputError
from modpo_hpc.study import Study


def check_inputs(study: Study) -> None:
    """Read every input file of ``study`` as the stages will.

    Raises:
        InputError: the first one that is wrong.
    """
    _check_questions(study)
    _check_surveys(study)


def cautions(study: Study) -> list[str]:
    """What to know before ``study`` begins, in sentences: personas that could be recognized by an outside judge."""
    from modpo_hpc.personas.privacy import OUTSIDE, anonymity_of_study, warning

    if study.judge.kind not in OUTSIDE or not study.personas.surveys:
        return []
    found = warning(anonymity_of_study(study), study.judge.kind)
    return [found] if found else []


def _check_questions(study: Study) -> None:
    from modpo_hpc.data import questions

    data = study.data
    source = data.epitome or data.file
    if data.epitome is not None and data.file is not None:
        raise InputError(
            "data.epitome and data.file are both given", field="data", remedy="Keep one of them; the other is null."
        )
    if source is None:
        return
    columns = ("sp_id", "seeker_post") if data.epitome else (data.id_column, data.text_column)
    posts = questions.clean(questions.read_posts(source, *columns, repeated_ids=data.epitome is not None), data)
    questions.split(posts, data.test_size, study.seed, str(source))


def _check_surveys(study: Study) -> None:
    for population, path in study.personas.surveys.items():
        _readable(path, f"personas.surveys.{population}")
    if study.personas.columns is not None:
        _readable(study.personas.columns, "personas.columns")
    if study.personas.surveys:
        from modpo_hpc.personas import records

        records.build(study.personas, study.seed)


def _readable(path: Path, field: str) -> None:
    if not path.is_file():
        raise InputError("there is no such file", file=path, field=field, remedy="Correct the path in the study.")
