"""``modpo human``: questions for people, their forms, and what their answers say of the model's judgments."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from modpo_hpc.cli.arguments import add_flag, add_json, add_run_dir, show
from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.core.markers import marker_path
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.run import Run

Shown = tuple[dict[str, Any], list[str]]
"""What an action found, as JSON and as lines for the terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    sample = actions.add_parser("sample", help="draw the questions, keeping the outcomes of the whole test set")
    sample.add_argument("--questions", type=int, default=100, metavar="N")
    sample.add_argument("--phase", metavar="PHASE", help="phase of the verdicts; the one with overall preference")
    sample.add_argument("--policies", nargs=2, default=[], metavar=("A", "B"), help="the two policies compared")
    sample.add_argument(
        "--next",
        metavar="CRITERION",
        help="begin a new round: of the questions that nobody judged, those that would narrow its interval most",
    )

    forms = actions.add_parser("forms", help="one page for each rater, which works from disk")
    forms.add_argument("--raters", type=int, default=6, metavar="N", help="raters who judge every question")
    forms.add_argument("--criteria", nargs="+", metavar="NAME", help="criteria instead of those of the study")
    forms.add_argument("--attention", type=int, metavar="N", help="attention checks a form; 0, for a crowd 2")
    forms.add_argument("--failures", type=int, default=0, metavar="N", help="failed checks that exclude nobody yet")
    add_flag(forms, "--crowd", "many short forms with a completion code, as for Prolific")
    forms.add_argument("--raters-per-question", type=int, default=5, metavar="N", help="crowd only")
    forms.add_argument("--questions-per-form", type=int, default=20, metavar="N", help="crowd only")
    forms.add_argument("--completion-code", metavar="CODE", help="crowd only; one is drawn if not given")

    simulate = actions.add_parser("simulate", help="let raters who do not exist fill in all forms (sandbox)")

    analyze = actions.add_parser("analyze", help="read the answers, unblind them, and make all tables")
    add_flag(analyze, "--partial", "count files that are not complete as far as they go")
    analyze.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="draws of the questions")
    analyze.add_argument("--epsilon", type=float, default=0.2, help="of the alternative annotator test")
    for action in (sample, forms, simulate, analyze):
        add_run_dir(action)
        add_json(action)
    for action in (forms, simulate, analyze):
        action.add_argument("--round", type=int, metavar="N", help="round of questions; the newest if not given")
    # after DIR: what comes first in a call is matched first
    analyze.add_argument("files", nargs="*", type=Path, metavar="FILE", help="files or folders; human/answers if none")


def run(arguments: argparse.Namespace) -> int:
    actions = {"sample": _sample, "forms": _forms, "simulate": _simulate, "analyze": _analyze}
    content, lines = actions[arguments.action](Run.open(arguments.run_dir), arguments)
    show(arguments.json, content, "\n".join(lines), indent=1)
    return 0


def _sample(run: Run, arguments: argparse.Namespace) -> Shown:
    from modpo_hpc.human.labels import next_sample
    from modpo_hpc.human.sample import choose_comparison, draw_sample, llm_outcomes
    from modpo_hpc.human.study import folder_of, keep_sample, rounds

    saved = []
    if arguments.next:
        sample, saving = next_sample(run, arguments.next, arguments.questions)
        path = keep_sample(folder_of(run, len(rounds(run)) + 1), sample)
        told = "by what is known so far, no better than a random sample"
        if saving > 0.005:
            told = f"expected to tell as much as {len(sample.questions) / (1 - saving):.0f} drawn at random"
        saved.append(f"for {arguments.next}: {told}")
    else:
        comparison = choose_comparison(run.study, arguments.phase, arguments.policies)
        sample = draw_sample(llm_outcomes(run, comparison), comparison, arguments.questions, run.study.seed)
        path = keep_sample(folder_of(run, 1), sample)
    a, b = sample.comparison.a, sample.comparison.b
    lines = [f"{len(sample.questions)} questions, {a} (A) against {b} (B): {path}", *saved]
    for row in sample.profile:
        shares = "   ".join(
            f"{name} {row[f'{name}_all']:.1%} -> {row[f'{name}_sample']:.1%}" for name in ("A", "tie", "B")
        )
        lines.append(f"  {row['criterion']:<10} {shares}")
    return sample.as_json(), lines


def _forms(run: Run, arguments: argparse.Namespace) -> Shown:
    from modpo_hpc.human.forms import Key, forms_for_everyone, forms_for_many, new_code, new_secret
    from modpo_hpc.human.study import criteria_of, folder_of, keep_forms, load_sample

    folder = folder_of(run, arguments.round)
    sample, secret = load_sample(folder), new_secret()
    checks = arguments.attention if arguments.attention is not None else 2 if arguments.crowd else 0
    code = None
    if arguments.crowd:
        code = arguments.completion_code or new_code()
        listed = forms_for_many(sample, arguments.raters_per_question, arguments.questions_per_form, checks, secret)
    else:
        listed = forms_for_everyone(sample, arguments.raters, checks, secret)
    criteria = tuple(arguments.criteria or criteria_of(run.study, sample.comparison.phase))
    key = Key(sample.comparison, criteria, listed, arguments.failures, code, secret)
    pages = keep_forms(run, folder, key, run.sandbox_mark)
    lines = [
        f"{len(pages)} forms of {min(len(form.key) for form in listed)} to {max(len(form.key) for form in listed)} "
        f"questions: {pages[0].parent}",
        f"Send each rater one page. The key stays here: {folder / 'key.json'}",
        *([] if run.study.human.notice else ["The pages warn raters of nothing: human.notice of the study is empty."]),
        *([f"completion code: {code}"] if code else []),
    ]
    return {"forms": [str(page) for page in pages], "completion_code": code}, lines


def _simulate(run: Run, arguments: argparse.Namespace) -> Shown:
    from modpo_hpc.human.simulate import fill_in
    from modpo_hpc.human.study import folder_of, keep_answers, load_key, texts_of

    if "models" not in run.study.simulated:
        raise InputError(
            "simulated raters know the sandbox's sentences only", file=run.root, remedy="Send the forms to people."
        )
    folder = folder_of(run, arguments.round)
    key = load_key(folder)
    posts, answers = texts_of(run, key.comparison)
    paths = [keep_answers(folder, form, fill_in(form, key, posts, answers, run.study.seed)) for form in key.forms]
    return {"files": [str(path) for path in paths]}, [f"{len(paths)} files of simulated raters: {paths[0].parent}"]


def _analyze(run: Run, arguments: argparse.Namespace) -> Shown:
    from modpo_hpc.human import study
    from modpo_hpc.human.analysis import analyze
    from modpo_hpc.human.answers import judgments, ratings_of, read_answers
    from modpo_hpc.human.forms import PREFIX
    from modpo_hpc.human.sample import llm_outcomes
    from modpo_hpc.human.sentences import of_rule, summary_lines
    from modpo_hpc.report.human_figures import panels
    from modpo_hpc.report.style import FORMATS, render

    folder = study.folder_of(run, arguments.round)
    key, sample = study.load_key(folder), study.load_sample(folder)
    usual = folder / "answers"
    places = arguments.files or [usual]
    paths = [
        path
        for place in places
        for path in (sorted(place.glob("*.json")) if place.is_dir() or place == usual else [place])
    ]
    if not paths:
        raise IncompleteError(f"there are no files of answers ({PREFIX}*.json) in {', '.join(map(str, places))}")
    handed = read_answers(paths, key, arguments.partial)
    ratings = ratings_of(handed, key, sample.questions)
    model = study.model_labels(llm_outcomes(run, key.comparison), sample.questions)
    model = {name: labels for name, labels in model.items() if name in key.criteria}
    confidence = run.study.statistics.confidence
    tables = analyze(ratings, model, arguments.bootstrap, confidence, run.study.seed, arguments.epsilon)
    mark = "sandbox: simulated raters" if ratings.simulated else run.sandbox_mark
    absent = [form.form_id for form in key.forms if form.form_id not in {one.form.form_id for one in handed}]
    summary = {
        "a": key.comparison.a,
        "b": key.comparison.b,
        "raters": list(ratings.raters),
        "questions": len(sample.questions),
        "excluded": dict(ratings.excluded),
        "failures_allowed": key.failures_allowed,
        "label": run.study.human.label,
        "not_handed_in": absent,
        "mark": mark,
        "tables": {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()},
    }
    folder = study.keep_analysis(folder, tables, judgments(handed, key), summary, mark)
    shown = of_rule(tables, run.study.human.label)
    figure = panels(shown, key.comparison.a, key.comparison.b, mark)
    for form in FORMATS:
        with atomic_file(folder / f"clinicians.{form}") as stream:
            stream.write(render(figure, form))
    # a report made before does not show this analysis
    marker_path(run.folder("report"), "all").unlink(missing_ok=True)
    lines = [
        *([mark] if mark else []),
        f"{len(ratings.raters)} raters, {len(sample.questions)} questions",
        f"A is {key.comparison.a}, B is {key.comparison.b}",
        *[f"excluded {rater}: {count} attention checks failed" for rater, count in ratings.excluded.items()],
        *([f"not handed in: {', '.join(absent)}"] if absent else []),
        *summary_lines(shown, key.comparison.a, key.comparison.b),
        f"tables and figure: {folder}",
        f"into the report: modpo report {run.quoted}",
    ]
    return summary, lines
