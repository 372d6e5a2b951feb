"""The corrector: which drafts it learns from, its loss against the model's own forward pass, a placebo, refusals."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.alignment.collator import collate
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.material import with_drafts
from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.errors import InputError
from modpo_hpc.judging.tasks import Criterion
from modpo_hpc.methods.corrector import Corrector
from modpo_hpc.sandbox.language_model import make_language_model, make_tokenizer
from modpo_hpc.study import load_study
from modpo_hpc.study.alignment import Training
from tests.conftest import REPOSITORY

CRITERIA = {"empathy": 0.5, "safety": 0.5, "autonomy": 0.0}
WORDS = tuple(Criterion(name, f"Title of {name}", f"what {name} is") for name in CRITERIA)


def policy(**fields: Any) -> Corrector:
    return Corrector(**{"criteria": CRITERIA, "source": "Base", **fields})


def example(votes: Any) -> Example:
    count = len(votes)
    return Example(
        "q",
        Tree((1,), tuple((3, 4 + one) for one in range(count))),
        tuple(f"q.r{one}" for one in range(count)),
        ((0, 1),) * len(CRITERIA),
        votes=tuple(map(tuple, votes)),
    )


@given(
    st.lists(st.tuples(*(st.integers(-2, 2).map(float) for _ in CRITERIA)), min_size=2, max_size=6),
    st.integers(0, 2**31),
)
def test_a_draft_has_fewer_votes_by_every_criterion_that_is_told(votes: list[tuple[float, ...]], seed: int) -> None:
    whole = example(votes)
    made = policy(drafts=5).prepare([whole], seed)
    assert len({one.response_ids for one in made}) == len(made) <= 5
    for one in made:
        told = [place for place, pair in enumerate(one.pairs) if pair]
        assert told
        assert 2 not in told  # its weight is zero
        assert {one.pairs[place] for place in told} == {(0, 1)}
        better, draft = (votes[whole.response_ids.index(name)] for name in one.response_ids)
        assert all(better[place] > draft[place] for place in told)
    if len({row[:2] for row in votes}) == 1:
        assert not made
    assert made == policy(drafts=5).prepare([whole], seed)


def test_all_the_criteria_are_told_in_time_and_each_alone() -> None:
    votes = [(float(one), float(one), 0.0) for one in range(5)]
    made = policy(drafts=8).prepare([replace(example(votes), question_id=f"q{n}") for n in range(20)], 7)
    told = {tuple(place for place, pair in enumerate(one.pairs) if pair) for one in made}
    assert told == {(0,), (1,), (0, 1)}


@pytest.fixture(scope="module")
def model_and_tokenizer() -> tuple[Any, Any]:
    tokenizer = make_tokenizer(["I cannot sleep and I do not know why.", "My work is too much for me."])
    torch.manual_seed(0)
    return make_language_model(tokenizer).eval(), tokenizer


def prompted(tokenizer: Any, draft: str, max_length: int = 512) -> Example:
    """One correction whose better response is ``Sleep can be hard.``, told by safety alone."""
    ids = tuple(tokenizer("Sleep can be hard.", add_special_tokens=False)["input_ids"])
    tree = Tree((1,), ((*ids, tokenizer.eos_token_id), (5, tokenizer.eos_token_id)))
    made = Example("q", tree, ("q.r0", "q.r1"), (None, (0, 1), None), reference=(0.0, 0.0))
    texts = {"q": "I cannot sleep.", "q.r1": draft}
    found, dropped = with_drafts([made], tokenizer, "Answer with care.", WORDS, texts, max_length)
    if dropped:
        raise ValueError(dropped[0].reason)
    return found[0]


def test_the_prompt_holds_instruction_message_draft_and_the_criteria_that_are_told(
    model_and_tokenizer: tuple[Any, Any],
) -> None:
    _, tokenizer = model_and_tokenizer
    text = tokenizer.decode(prompted(tokenizer, "Just [/INST] sleep more.").tree.prompt)
    for part in ("Answer with care.", "I cannot sleep.", "sleep more.", "Title of safety: what safety is"):
        assert part in text
    assert "empathy" not in text
    assert "autonomy" not in text
    assert text.count("[/INST]") == 1  # a draft cannot end the user's turn


def test_the_loss_is_that_of_the_models_own_forward_pass_on_the_better_response(
    model_and_tokenizer: tuple[Any, Any],
) -> None:
    """Mean negative log-likelihood by transformers' logits, of question and draft before the better response."""
    model, tokenizer = model_and_tokenizer
    one = policy().training_view(prompted(tokenizer, "Just sleep."))
    assert len(one.tree.responses) == 1
    batch = collate([one])
    prompt, better = one.tree.prompt, one.tree.responses[0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *better]])).logits[0].double()
        losses, _ = policy().loss(batch, ResponseScorer(copy.deepcopy(model))(batch.packed), Training())
    logs = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
    by_hand = -logs[torch.arange(len(better)), torch.tensor(better)].mean()
    assert losses.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_loss_on_held_out_questions_is_of_the_better_response_whatever_is_told() -> None:
    """The anchor has no pair where it is not told: its places are no response of the example then."""
    one = replace(example([(1.0, 1.0, 0.0), (0.0, 0.0, 0.0)]), pairs=(None, (0, 1), None), reference=(0.0, 0.0))
    batch = collate([one, replace(one, pairs=((0, 1), None, None))])
    losses, _ = policy().loss(batch, torch.tensor([-4.0, -90.0, -6.0, -90.0]), Training())
    assert losses.tolist() == [2.0, 3.0]


def test_trained_on_drafts_it_uses_them_and_trained_on_drafts_of_others_it_does_not(
    model_and_tokenizer: tuple[Any, Any],
) -> None:
    """Which of two answers is right stands in the draft alone. The placebo, with drafts drawn by lot, cannot tell."""
    _, tokenizer = model_and_tokenizer
    drafts = ("I am sad.", "I am tired.")
    answers = [
        (*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id) for text in ("Rest.", "Talk.")
    ]
    shown = {draft: prompted(tokenizer, draft).tree.prompt for draft in drafts}

    def trained(orders: list[int]) -> float:
        """Share of the right answer's probability where the draft is the first, less where it is the second."""
        torch.manual_seed(1)
        model = make_language_model(tokenizer)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for order in orders:
            some = [
                Example("q", Tree(shown[drafts[place]], (answers[place ^ order],)), ("q.r0",), ((0, 0),), (0.0,))
                for place in (0, 1)
            ]
            batch = collate(some)
            loss = policy().loss(batch, ResponseScorer(model)(batch.packed), Training())[0].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            both = collate(
                [Example("q", Tree(shown[one], tuple(answers)), ("a", "b"), ((0, 1),), (0.0, 0.0)) for one in drafts]
            )
            logps = ResponseScorer(model)(both.packed).view(2, 2)
        shares = torch.softmax(logps, 1)[:, 0]
        return float(shares[0] - shares[1])

    steps = 60
    assert trained([0] * steps) > 0.8
    assert abs(trained([int(one) for one in np.random.default_rng(0).integers(0, 2, steps)])) < 0.5


def test_a_correction_that_is_too_long_is_dropped_with_its_length(model_and_tokenizer: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"q\.r0 has \d+ tokens with its prompt and a draft, more than max_length 40"):
        prompted(model_and_tokenizer[1], "Just sleep.", max_length=40)


BASE = {"method": "base"}
CORRECTOR: dict[str, Any] = {"method": "corrector", "criteria": {"empathy": 1}, "source": "Base"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"C": {**CORRECTOR, "source": "nobody"}}, "C.source is 'nobody'; it must be a policy"),
    "itself": ({"C": {**CORRECTOR, "source": "C"}}, "C.source is 'C'; it must be a policy of this study that answers"),
    "another corrector": (
        {"C": CORRECTOR, "D": {"method": "corrected", "by": "C", "source": "C", "criteria": ["empathy"]}},
        "D.source is 'C'",
    ),
    "no corrector": (
        {"D": {"method": "corrected", "by": "Base", "source": "Base", "criteria": ["empathy"]}},
        "D.by names 'Base', which is no policy of method corrector",
    ),
    "a criterion nobody ranks by": (
        {"C": CORRECTOR, "D": {"method": "corrected", "by": "C", "source": "Base", "criteria": ["warmth"]}},
        "D.criteria names 'warmth', which is not in criteria.rank",
    ),
    "no criteria": (
        {"C": CORRECTOR, "D": {"method": "corrected", "by": "C", "source": "Base", "criteria": []}},
        "at least 1 item",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_corrected_is_refused_with_the_field(kind: str) -> None:
    policies, reason = REFUSED[kind]
    words = [
        f"alignment.policies={ {'Base': BASE, **policies} }",
        f"judging.phases={ {'phase1': {'policies': ['Base', next(iter(policies))], 'criteria': ['empathy']}} }",
        "statistics.non_inferiority={}",
    ]
    with pytest.raises(InputError, match=reason):
        load_study(REPOSITORY / "configs/demo.yaml", words)
