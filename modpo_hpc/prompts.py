"""Every text that reaches a model is built here, and nowhere else."""

from __future__ import annotations

from typing import Any

THERAPIST = (
    "You support a person who writes to you about how they are doing. Answer them directly, in a few sentences, "
    "as a careful counsellor would: take in what they say, and help them see a next step that is theirs to choose."
)


def therapist_messages(question: str) -> list[dict[str, str]]:
    """The conversation to which every policy answers: generation, training and evaluation see this and only this.

    The instruction stands in the user's turn because some templates (Mistral's among them) know no system turn.
    """
    return [{"role": "user", "content": f"{THERAPIST}\n\n{question}"}]


def therapist_prompt(tokenizer: Any, question: str) -> list[int]:
    """Token ids of the prompt for ``question``, from the tokenizer's chat template, with one BOS at most."""
    text = tokenizer.apply_chat_template(therapist_messages(question), tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def response_tokens(tokenizer: Any, response: str) -> list[int]:
    """Token ids of ``response`` with the EOS that ends it: what a loss is taken over."""
    ids: list[int] = tokenizer(response, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def reward_pair(question: str, response: str) -> tuple[str, str]:
    """The text pair that a reward model reads. Truncation, where needed, takes from the first text only."""
    return question, response
