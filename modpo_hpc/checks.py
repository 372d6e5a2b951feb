"""What can be found wrong before anything is made or queued: files of the study that are not there or unusable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.errors import InputError
from modpo_hpc.study import Study
from modpo_hpc.study.judging import GENERIC

if TYPE_CHECKING:
    from modpo_hpc.run import Run


def check_inputs(study: Study) -> list[str]:
    """Read every input file of ``study`` as the stages will.

    Returns:
        What became of the rows of each file: read, dropped by which rule, kept; a sentence a file.

    Raises:
        InputError: the first one that is wrong.
    """
    from modpo_hpc.judging.kinds import judge_kind

    _check_criteria(study)
    for judge in study.judges:
        judge_kind(judge.kind)
    _check_models(study)
    told = [*_check_questions(study), *_check_surveys(study)]
    _check_personalization(study)
    return told


def questions_of(study: Study) -> tuple[int, int]:
    """How many training and test questions ``study`` has before it takes a part of them."""
    from modpo_hpc.data.questions import usable_posts

    data = study.data
    if data.epitome is None and data.file is None:
        return data.sandbox_train, data.sandbox_test
    return usable_posts(data, study.seed)[1].kept - data.test_size, data.test_size


def without_absent_inputs(study: Study) -> tuple[Study, list[str]]:
    """``study`` as it can be planned before its data is there, and what is assumed in the place of each absent file.

    Raises:
        InputError: posts are absent of which it is not known how many there will be.
    """
    from modpo_hpc.data.questions import EPITOME_POSTS

    raw, assumed = study.model_dump(), []
    data, personas = study.data, study.personas
    if data.epitome is not None and not data.epitome.exists():
        train, test = EPITOME_POSTS - data.test_size, data.test_size
        raw["data"] |= {"epitome": None, "sandbox_train": train, "sandbox_test": test}
        assumed.append(f"{data.epitome} is not there: as many posts as the paper counts, {train:,} and {test:,}")
    elif data.file is not None and not data.file.exists():
        raise InputError(
            "there is no such file, and nobody can know how many posts it will hold",
            file=data.file,
            field="data.file",
            remedy="To plan without it, say how many: --set data.file=null --set data.sandbox_train=N "
            "--set data.sandbox_test=M",
        )
    absent = [str(path) for path in (*personas.surveys.values(), personas.columns) if path and not path.exists()]
    if absent:
        raw["personas"] |= {"surveys": {}, "columns": None}
        assumed.append(f"{', '.join(absent)} not there: the surveys give the {personas.select} personas of the study")
    return type(study).model_validate(raw), assumed


def cautions(study: Study, run: Run | None = None) -> list[str]:
    """What to know before ``study`` begins, in sentences: recognizable personas, invented opinions.

    The personas are those of ``run`` where it has them (imported ones too), else those that the surveys will give.
    """
    from modpo_hpc.judging.kinds import judge_kind
    from modpo_hpc.personas.privacy import anonymity_of_run, anonymity_of_study, warning

    found = _invented_opinions(study)
    outside = [judge.kind for judge in study.judges if judge_kind(judge.kind).texts_leave]
    brought = run if run is not None and run.imported("personas") else None
    if outside and (study.personas.surveys or brought):
        anonymity = anonymity_of_run(brought) if brought else anonymity_of_study(study)
        if warned := warning(anonymity, outside[0]):
            found.append(warned)
    return found


def _check_criteria(study: Study) -> None:
    from modpo_hpc.judging.criteria import load_criteria

    judged = [name for phase in study.judging.phases.values() for name in phase.criteria]
    personal = (study.personalization.preference, study.personalization.safety) if study.personalization else ()
    asked = list(dict.fromkeys([*study.criteria.rank, *judged, *personal]))
    load_criteria(study.criteria.files, asked)
    if any(judge.kind == "rules" and judge.model != GENERIC for judge in study.judges):
        for field, name in _without_rules(study):
            raise InputError(
                "the judge of kind rules has no rules for this criterion",
                file=", ".join(str(file) for file in study.criteria.files),
                field=field,
                value=name,
                remedy="For results choose a judge that is a language model (docs/judging.md). Only to see whether the "
                f"study runs, set judge.model to {GENERIC}: opinions that are invented for any criterion, and mean "
                "nothing.",
            )


def _without_rules(study: Study) -> list[tuple[str, str]]:
    """Field and name of the criteria that a judge of kind rules has no rules for."""
    from modpo_hpc.sandbox.judge import CRITERIA

    phases = study.judging.phases.items()
    fields = {"criteria.rank": study.criteria.rank} | {
        f"judging.phases.{name}.criteria": phase.criteria for name, phase in phases
    }
    if study.personalization is not None:
        fields |= {f"personalization.{one}": (getattr(study.personalization, one),) for one in ("preference", "safety")}
    return [(field, name) for field, names in fields.items() for name in names if name not in CRITERIA]


def _invented_opinions(study: Study) -> list[str]:
    """A caution where opinions of criteria are invented that no rules are for."""
    generic = any(judge.kind == "rules" and judge.model == GENERIC for judge in study.judges)
    if not generic or not (unknown := list(dict.fromkeys(name for _, name in _without_rules(study)))):
        return []
    told = f"The judge has no rules for {', '.join(unknown)}: its opinions of them are invented and mean nothing."
    return [f"{told} For results choose a judge that is a language model."]


def _check_models(study: Study) -> None:
    """Folders of models are there and are models, and the base model has the modules that adapters go to."""
    for field, name in (("models.base", study.models.base), ("models.reward", study.models.reward)):
        folder = Path(name).expanduser()
        if name.startswith(("/", ".", "~")) and not folder.is_dir():
            raise InputError(
                "there is no such folder",
                file=folder,
                field=field,
                remedy="Correct the path, or give a name on the hub.",
            )
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise InputError(
                "this folder holds no model (it has no config.json)",
                file=folder,
                field=field,
                remedy="Give the folder of a downloaded model, with its config.json and weights.",
            )
    if modules := _modules_of(Path(study.models.base).expanduser()):
        for policy in study.alignment.trained:
            targets = study.alignment.training_of(policy).lora_targets
            if absent := [target for target in targets if not any(name.endswith(f".{target}") for name in modules)]:
                known = sorted({name.rpartition(".")[2] for name in modules})
                raise InputError(
                    "the base model has no module of this name",
                    file=study.models.base,
                    field=f"lora_targets (of policy {policy})",
                    value=absent[0],
                    remedy=f"Set alignment.training.lora_targets to some of: {', '.join(known[:12])}.",
                )


def _modules_of(folder: Path) -> set[str]:
    """Names of the modules with weights, from the headers of the safetensors files; empty where there are none."""
    names: set[str] = set()
    for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        with open(file, "rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        names |= {name.removesuffix(".weight") for name in header if name.endswith(".weight")}
    return names


def _check_questions(study: Study) -> list[str]:
    from modpo_hpc.data import questions

    data = study.data
    source = data.epitome or data.file
    if data.epitome is not None and data.file is not None:
        raise InputError(
            "data.epitome and data.file are both given", field="data", remedy="Keep one of them; the other is null."
        )
    if source is None:
        return []
    posts, account = questions.usable_posts(data, study.seed)
    questions.split(posts, data.test_size, study.seed, str(source))
    return [account.sentence()]


def _check_personalization(study: Study) -> None:
    """Questions that teach weights must be there, others that test them, and ratings where an arm takes them."""
    from modpo_hpc.personas.columns import load_columns

    wanted = study.personalization
    if wanted is None:
        return
    there = questions_of(study)[0]
    there = min(there, study.data.use_train or there)
    if wanted.teach_questions + wanted.test_questions > there:
        raise InputError(
            f"{wanted.teach_questions} questions that teach weights and {wanted.test_questions} others that test them "
            f"are wanted, and there are {there} training questions",
            field="personalization.test_questions",
            value=wanted.test_questions,
            remedy="Lower personalization.teach_questions or test_questions, or raise data.use_train.",
        )
    rated = load_columns(study.personas.columns).criteria
    stated = [arm for arm in wanted.arms if arm != "rankings"]
    if stated and not set(rated) & set(study.criteria.rank):
        raise InputError(
            f"this arm weighs criteria as people rated them, and none of criteria.rank was rated ({', '.join(rated)})",
            field="personalization.arms",
            value=stated[0],
            remedy="Keep rankings alone, or rank by criteria of the survey.",
        )


def _check_surveys(study: Study) -> list[str]:
    surveys = study.personas.surveys
    named = {f"personas.surveys.{name}": path for name, path in surveys.items()}
    for field, path in {**named, "personas.columns": study.personas.columns}.items():
        if path is not None and not path.is_file():
            raise InputError("there is no such file", file=path, field=field, remedy="Correct the path in the study.")
    if not surveys:
        return []
    from modpo_hpc.personas import records

    account = records.build(study.personas, study.seed).account
    return [
        f"surveys: {account['participants']:,} people read; dropped {len(account['copies'])} copies and "
        f"{account['below_floor']} below the quality floor; {account['selected']} personas chosen of the rest"
    ]
