"""A small run with answers of two policies and their verdicts, made from the sandbox's parts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.data.authors import Response
from modpo_hpc.exchange.bundle import Bundle
from modpo_hpc.exchange.imports import bring_in
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.sandbox.compose import compose_reply
from modpo_hpc.sandbox.questions import invented_posts
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import load_study

QUESTIONS = 120
CRITERIA = (
    *("empathy", "active_listening", "self_motivated_change", "trust_rapport", "patient_autonomy"),
    *("safety", "overall"),
)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CompletedProcess[str]]:
    """A command with its exit code and what it printed, without the second that a process of its own takes to start.

    Who stands on which side of a form is drawn alike in every run of a test: what raters make of it is then a fact and
    not one in twenty chances.
    """
    numbers = count()
    monkeypatch.setattr("modpo_hpc.human.forms.new_secret", lambda: f"drawn {next(numbers)}")

    def call(*words: object) -> CompletedProcess[str]:
        listed = [str(word) for word in words]
        capsys.readouterr()
        code = main(listed)
        printed = capsys.readouterr()
        return CompletedProcess(listed, code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose phase compares MODPO_Survey, which says more of the right things, with Base."""
    study = load_study(
        "configs/demo.yaml",
        [
            "personas={select: 12, train: 6, test: 6}",
            "ranking.personas_per_question=6",
            "judging.personas_per_question=6",
            "alignment.policies={Base: {method: base}, MODPO_Survey: {method: modpo, "
            "criteria: {empathy: 0.5, safety: 0.5}}}",
            "judging.phases={phase2: {policies: [Base, MODPO_Survey], criteria: [overall, safety]}}",
            "toxicity.backends={}",
        ],
    )
    posts = invented_posts(QUESTIONS + 8, 11)["text"].tolist()
    questions = {f"q{place:03d}": text for place, text in enumerate(posts)}
    bundle = Bundle()
    for place, (identity, text) in enumerate(questions.items()):
        bundle.questions["test" if place < QUESTIONS else "train"][identity] = text
    for policy, tries in (("Base", 1), ("MODPO_Survey", 3)):
        bundle.answers[policy] = {
            identity: Response(identity, text, _reply(text, rng_of(policy, identity).integers(1 << 30), tries))
            for identity, text in bundle.questions["test"].items()
        }
    run = Run.create(tmp_path_factory.mktemp("human") / "run", study)
    bring_in(run, bundle)
    run_shard(str(run.root), "personas", "all")
    for shard in run.shard_ids("verdicts"):
        run_shard(str(run.root), "verdicts", shard)
    return run.root


def _reply(post: str, seed: int, tries: int) -> str:
    """Of several replies to a post the one that takes up most of the right moves, by the sandbox's own rules."""
    from modpo_hpc.sandbox.judge import score_response

    replies = [compose_reply(post, rng_of(int(seed), number)) for number in range(tries)]
    return max(replies, key=lambda reply: score_response(reply, post, "overall", {}))
