"""The authors' files read together, and held against one another and the study before anything is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modpo_hpc.data import authors
from modpo_hpc.data.authors import AuthorsPersona, Kind, Ranked, Response
from modpo_hpc.errors import InputError
from modpo_hpc.exchange.names import our_response_id, policy_named
from modpo_hpc.study import Study


@dataclass
class Bundle:
    """All that a set of files holds, in our ids. Empty parts were not given."""

    personas: dict[str, list[AuthorsPersona]] = field(default_factory=dict)
    questions: dict[str, dict[str, str]] = field(default_factory=lambda: {"train": {}, "test": {}})
    responses: dict[str, dict[str, Response]] = field(default_factory=dict)
    ranked: dict[str, dict[str, Ranked]] = field(default_factory=dict)
    answers: dict[str, dict[str, Response]] = field(default_factory=dict)


def files_in(places: Sequence[Path]) -> list[Path]:
    """The files named, and those directly in the folders named, by name.

    Raises:
        InputError: no such place, or a folder with nothing to import.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(one for one in place.iterdir() if one.suffix in (".json", ".csv"))
            if not inside:
                raise InputError("this folder holds no .json or .csv files", file=place, remedy=authors.FORMATS)
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise InputError("there is no such file or folder", file=place, remedy="Check the path.")
    return found


def read_bundle(files: Sequence[Path], study: Study, models: Mapping[str, str]) -> Bundle:
    """Read ``files`` and check that they agree.

    Args:
        models: the authors' name of a model -> policy of the study, where the names differ.

    Raises:
        InputError: the first fault, with file, line or entry, and field.
    """
    kinds: dict[Kind, list[Path]] = defaultdict(list)
    for path in files:
        kinds[authors.kind_of(path)].append(path)
    bundle = Bundle()
    details = {text: entry for path in kinds["all_personas"] for text, entry in authors.read_details(path).items()}
    _read_personas(bundle, kinds["personas"], details)
    for path in kinds["questions"]:
        for identity, text in authors.read_questions(path).items():
            _add_question(bundle, _split_in(path), identity, text, path)
    ranked = [(path, authors.read_ranked(path)) for path in (*kinds["rankings"], *kinds["pairs"])]
    responses = [(path, authors.read_responses(path)) for path in kinds["responses"]]
    numbers = [one.response_id for _, listed in responses for one in listed]
    numbers += [identity for _, listed in ranked for one in listed for identity in one.response_ids]
    first = 0 if "0" in numbers else 1
    for path, listed in responses:
        for one in listed:
            _add_question(bundle, "train", one.question_id, one.question, path)
            _add_response(bundle, our_response_id(one.question_id, one.response_id, first), one, path)
    for path, entries in ranked:
        _read_ranked(bundle, path, entries, first, study)
    for path in kinds["answers"]:
        for one in authors.read_responses(path):
            policy = policy_named(one.model, study.alignment.policies, models, path)
            _add_question(bundle, "test", one.question_id, one.question, path)
            if one.question_id in bundle.answers.setdefault(policy, {}):
                raise InputError(
                    f"{policy} answers this question twice",
                    file=path,
                    field="question_id",
                    value=one.question_id,
                    remedy="Give one file for each model.",
                )
            bundle.answers[policy][one.question_id] = one
    if twice := sorted(bundle.questions["train"].keys() & bundle.questions["test"].keys()):
        raise InputError(
            f"{len(twice)} questions are both training and test questions",
            field="question_id",
            value=twice[0],
            remedy="A question belongs to one of the two sets; check which files belong together.",
        )
    return bundle


def check_bundle(bundle: Bundle, study: Study) -> None:
    """Refuse a bundle with which ``study`` could not go on.

    Raises:
        InputError: says what is missing, and how to supply it or to change the study.
    """
    for split, listed in bundle.personas.items():
        wanted = getattr(study.personas, split)
        if len(listed) != wanted:
            sizes = {name: len(people) for name, people in bundle.personas.items()}
            settings = " ".join(f"--set personas.{name}={size}" for name, size in sizes.items())
            raise InputError(
                f"the files hold {len(listed)} {split} personas, the study {wanted}",
                field=f"personas.{split}",
                remedy=f"Import with: {settings} --set personas.select={sum(sizes.values())}.",
            )
    if bundle.ranked and (absent := [name for name in study.criteria.rank if name not in bundle.ranked]):
        raise InputError(
            "the study ranks by this criterion, but there is no pairs or rankings file of it",
            field="criteria.rank",
            value=absent[0],
            remedy=f"Add {absent[0]}_pairs.json, or import with: --set criteria.rank=[{','.join(bundle.ranked)}].",
        )
    for question_id, given in bundle.responses.items():
        wanted = study.generation.responses_per_question
        if not bundle.ranked and len(given) != wanted:
            raise InputError(
                f"this question has {len(given)} responses, the study asks for {wanted}",
                field="question_id",
                value=question_id,
                remedy="Import with --set generation.responses_per_question=N, or complete the file.",
            )
    if bundle.answers and (absent := [name for name in study.alignment.policies if name not in bundle.answers]):
        raise InputError(
            "the study has this policy, but there are no answers of it",
            field="alignment.policies",
            value=absent[0],
            remedy="Add its file, or take the policy out of the study.",
        )


def _split_in(path: Path) -> str:
    name = path.name.lower()
    fits = [split for split in ("train", "test") if split in name]
    if len(fits) != 1:
        raise InputError(
            "the name does not say whether these are for training or for the test",
            file=path,
            remedy="Rename the file so that its name holds 'train' or 'test'.",
        )
    return fits[0]


def _read_personas(bundle: Bundle, paths: Sequence[Path], details: Mapping[str, Mapping[str, object]]) -> None:
    texts = {_split_in(path): authors.read_personas(path) for path in paths}
    if len(texts) == 1:
        (there,) = texts
        raise InputError(
            f"there are {there} personas, but no {'test' if there == 'train' else 'train'} personas",
            file=paths[0],
            remedy="Give train_personas.json and test_personas.json together.",
        )
    # the authors number both files from persona_000, so an id alone may name two people
    shared = set.intersection(*(set(listed) for listed in texts.values())) if texts else set()
    bundle.personas = {
        split: [
            AuthorsPersona(f"{split}.{identity}" if shared else identity, text, details.get(text, {}))
            for identity, text in texts[split].items()
        ]
        for split in ("train", "test")
        if split in texts
    }


def _read_ranked(bundle: Bundle, path: Path, entries: Sequence[Ranked], first: int, study: Study) -> None:
    criterion = path.name.rpartition("_")[0]
    if criterion not in study.criteria.rank:
        raise InputError(
            "the study does not rank by this criterion",
            file=path,
            field="criteria.rank",
            value=criterion,
            remedy=f"It ranks by: {', '.join(study.criteria.rank)}. Rename the file, or set criteria.rank.",
        )
    known = bundle.ranked.setdefault(criterion, {})
    for place, one in enumerate(entries):
        _add_question(bundle, "train", one.question_id, one.question, path)
        ids = tuple(our_response_id(one.question_id, identity, first) for identity in one.response_ids)
        for identity, text in zip(ids, one.texts, strict=True):
            _add_response(bundle, identity, Response(one.question_id, one.question, text), path)
        before = known.get(one.question_id)
        if before is None:
            known[one.question_id] = Ranked(one.question_id, one.question, ids, one.texts, one.votes)
        elif (before.response_ids[0], before.response_ids[-1]) != (ids[0], ids[-1]):
            raise InputError(
                f"the pairs and the rankings of {criterion} do not agree on the best and the worst response",
                file=path,
                field=f"[{place}]",
                value=one.question_id,
                remedy="Give files of the same collection.",
            )


def _add_question(bundle: Bundle, split: str, identity: str, text: str, path: Path) -> None:
    _refuse_another("question", identity, bundle.questions[split].setdefault(identity, text), text, path)


def _add_response(bundle: Bundle, identity: str, response: Response, path: Path) -> None:
    before = bundle.responses.setdefault(response.question_id, {}).setdefault(identity, response)
    _refuse_another("response", identity, before.text, response.text, path)


def _refuse_another(kind: str, identity: str, before: str, text: str, path: Path) -> None:
    if before.strip() != text.strip():
        raise InputError(
            f"this {kind} has another text in another of the files",
            file=path,
            field=f"{kind}_id",
            value=identity,
            remedy="Give files of the same collection.",
        )
