"""The tiny models are real ones, load by the ordinary doors, and come out the same after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from modpo_hpc.errors import Interrupted
from modpo_hpc.prompts import INSTRUCTION, answering_messages, answering_prompt, response_tokens, reward_pair
from modpo_hpc.sandbox.compose import compose_reply, every_sentence
from modpo_hpc.sandbox.encoder import make_encoder
from modpo_hpc.sandbox.language_model import teach_language_model
from modpo_hpc.sandbox.moves import BAD_MOVES, SENTENCES, read_reply
from modpo_hpc.sandbox.questions import invented_posts
from modpo_hpc.seeds import rng_of

POSTS = invented_posts(40, seed=5)["text"].tolist()
STEPS = 60


class Attempt:
    """The part of a shard that teaching uses."""

    def __init__(self, scratch: Path, stop_after: int | None = None) -> None:
        self.scratch, self.stop_after, self.losses = scratch, stop_after, list[float]()
        scratch.mkdir(parents=True, exist_ok=True)

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        self.losses.append(metrics["loss"])

    def check(self) -> None:
        if self.stop_after is not None and len(self.losses) >= self.stop_after:
            raise Interrupted("asked to stop")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Attempt]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("taught")
    attempt = Attempt(root / "scratch")
    teach_language_model(root / "base", POSTS, INSTRUCTION, STEPS, 42, attempt)
    return root / "base", attempt


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    make_encoder(folder, POSTS, 42)
    return folder


def test_the_base_model_is_a_small_mistral_that_learns(taught: tuple[Path, Attempt]) -> None:
    folder, attempt = taught
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "MistralForCausalLM"
    assert sum(one.numel() for one in model.parameters()) < 1_000_000
    assert attempt.losses[-1] < 0.6 * attempt.losses[0]


def test_an_interrupted_lesson_ends_with_the_same_bytes(taught: tuple[Path, Attempt], tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with pytest.raises(Interrupted):
        teach_language_model(tmp_path / "lost", POSTS, INSTRUCTION, STEPS, 42, Attempt(scratch, stop_after=50))
    resumed = Attempt(scratch)
    teach_language_model(tmp_path / "base", POSTS, INSTRUCTION, STEPS, 42, resumed)
    assert len(resumed.losses) == STEPS - 50
    for file in sorted(taught[0].iterdir()):
        assert (tmp_path / "base" / file.name).read_bytes() == file.read_bytes(), file.name


def test_its_tokenizer_has_one_bos_and_gives_texts_back(taught: tuple[Path, Attempt]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(taught[0])
    assert tokenizer.is_fast
    prompt = answering_prompt(tokenizer, POSTS[0])
    assert prompt[0] == tokenizer.bos_token_id
    assert prompt.count(tokenizer.bos_token_id) == 1
    assert prompt == tokenizer.apply_chat_template(answering_messages(POSTS[0]), return_dict=False)
    for text in [*every_sentence(), "naïve façade — 日本 🙂", POSTS[1]]:
        ids = response_tokens(tokenizer, text)
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[:-1]) == text
        assert tokenizer.pad_token_id not in ids


def test_the_encoder_is_a_small_roberta_that_scores_pairs(encoder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1)
    assert model.config.model_type == "roberta"
    assert sum(one.numel() for one in model.parameters()) < 1_000_000
    batch = tokenizer(*reward_pair(tokenizer, POSTS[0], "I am here."), return_tensors="pt")
    assert batch["input_ids"][0, 0] == tokenizer.cls_token_id
    assert int((batch["input_ids"] == tokenizer.sep_token_id).sum()) == 3
    assert model(**batch).logits.shape == (1, 1)


def test_the_untaught_counsellor_makes_every_move_and_keeps_it_short() -> None:
    rng: Callable[[int], Any] = lambda number: rng_of("test", number)  # noqa: E731
    replies = [read_reply(compose_reply(POSTS[number % len(POSTS)], rng(number))) for number in range(600)]
    made = {sentence.move for reply in replies for sentence in reply}
    assert made == set(SENTENCES)
    assert {len(reply) for reply in replies} == {2, 3, 4, 5}
    bad = sum(sentence.move in BAD_MOVES for reply in replies for sentence in reply)
    assert 0.1 < bad / sum(map(len, replies)) < 0.3
