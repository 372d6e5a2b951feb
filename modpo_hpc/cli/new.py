"""``modpo new FOLDER``: a study of one's own in any field; asks for what is not given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from modpo_hpc.cli.arguments import add_repeated
from modpo_hpc.cli.main import main
from modpo_hpc.errors import InputError
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.tasks import Task
from modpo_hpc.prompts import answering_messages, judging_prompt
from modpo_hpc.study import Study, load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new or empty folder for the study's files")
    parser.add_argument("--posts", type=Path, metavar="FILE", help="questions: CSV, JSONL, or the folder of a dataset")
    parser.add_argument("--text-column", metavar="NAME", help="column of the text")
    parser.add_argument("--id-column", metavar="NAME", default="", help="column of the id; numbered if not given")
    words = "what answers are judged by, and when one is better; may be repeated, the first is the anchor"
    add_repeated(parser, "--criterion", "NAME=SENTENCE", words, dest="criteria")
    parser.add_argument("--survey", type=Path, metavar="CSV", help="answers of people; invented people if not given")
    parser.add_argument(
        "--personas", type=Path, metavar="FILE", help="people as texts, in place of a survey: CSV, JSONL or a dataset"
    )
    parser.add_argument("--persona-column", default="text", metavar="NAME", help="column of these texts")
    parser.add_argument("--model", default="sandbox", metavar="NAME", help="base model (default: a tiny one)")
    parser.add_argument(
        "--judge", metavar="MODEL", help="a model at an OpenAI-compatible endpoint; a simulated judge if not given"
    )
    parser.add_argument("--endpoint", metavar="URL", help="the judge's endpoint, its key in OPENAI_API_KEY")
    parser.add_argument("--scene", metavar="SENTENCE", help="what the judge is told of the replies before it")
    parser.add_argument("--instruction", metavar="SENTENCE", help="what the model is told before each question")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.exchange.draft import Draft, write_draft
    from modpo_hpc.exchange.source_card import TO_FILL_IN

    given = vars(arguments)
    asking = sys.stdin.isatty()

    def answer(name: str, question: str, default: str = "") -> str:
        if given[name] is not None:
            return str(given[name])
        if asking:
            return input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        if default:
            return default
        option = "--" + name.replace("_", "-")
        raise InputError("this has to be given", field=option, remedy=f'Give {option}: "{question}".')

    posts = Path(answer("posts", "Questions (CSV, JSONL, or the folder of a dataset)"))
    text_column = answer("text_column", "Column of the text", "text")
    criteria = dict(_criterion(one) for one in arguments.criteria)
    while asking and not arguments.criteria:
        line = input("A criterion, as name=when an answer is better (empty line: no more): ").strip()
        if not line:
            break
        criteria |= [_criterion(line)]
    judge = {"kind": "openai", "model": arguments.judge} if arguments.judge else None
    if judge and arguments.endpoint:
        judge["base_url"] = arguments.endpoint
    draft = Draft(
        name=arguments.folder.resolve().name,
        posts=posts,
        id_column=arguments.id_column,
        text_column=text_column,
        criteria=criteria,
        scene=answer("scene", "What the judge is told", "A person wrote a question and got several replies."),
        instruction=answer("instruction", "What the model is told", "Answer the question that a person wrote to you."),
        survey=arguments.survey,
        personas=arguments.personas,
        persona_column=arguments.persona_column,
        model=arguments.model,
        judge=judge,
    )
    study_file = write_draft(draft, arguments.folder)
    print(f"written: {', '.join(sorted(path.name for path in arguments.folder.iterdir()))} in {arguments.folder}")
    _show_prompts(load_study(study_file))
    print("\nThe plan:\n")
    code = main(["plan", str(study_file)])
    print(f"\nEdit the files, if you like, then run it:\n  modpo run {study_file} --run runs/{draft.name}")
    card = study_file.with_name("card.md")
    print(f"What only you know of the data is marked {TO_FILL_IN} in {card}; exports carry it.")
    return code


def _criterion(text: str) -> tuple[str, str]:
    name, sign, sentence = text.partition("=")
    if not sign or not sentence.strip():
        raise InputError(
            "a criterion is a name and a sentence", field="--criterion", value=text,
            remedy='For instance: "clarity=The answer can be understood at first reading."',
        )  # fmt: skip
    return name.strip(), sentence.strip()


def _show_prompts(study: Study) -> None:
    from modpo_hpc.data.questions import usable_posts
    from modpo_hpc.personas import records

    posts = usable_posts(study.data, study.seed)[0]["text"].tolist()
    people = records.build(study.personas, study.seed).personas
    criteria = load_criteria(study.criteria.files, study.criteria.rank)
    print("\nFive prompts as they will be sent. The model that answers reads:\n")
    print("\n".join(message["content"] for message in answering_messages(posts[0], study.generation.instruction)))
    judge, responses = study.judges[0], study.generation.responses_per_question
    asked: tuple[tuple[Task, int], ...] = (("rank", responses), ("rank", responses), ("judge", 2), ("judge", 2))
    for person, post, (task, shown) in zip(people, posts, asked, strict=False):
        replies = [f"(answer {number})" for number in range(1, shown + 1)]
        prompt = judging_prompt(task, person["text"], criteria, post, replies, judge.prompt_order, judge.scene)
        print("\n--- the judge reads:\n\n" + "".join(prompt))
