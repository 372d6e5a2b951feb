"""Examples of a corrector: the prompt holds a draft and the criteria by which the answer is to be better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modpo_hpc.alignment.examples import Dropped, Example
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.prompts import answering_prompt, correction

if TYPE_CHECKING:
    from modpo_hpc.judging.tasks import Criterion


def with_drafts(
    examples: Sequence[Example],
    tokenizer: Any,
    instruction: str,
    criteria: Sequence[Criterion],
    texts: Mapping[str, str],
    max_length: int,
) -> tuple[list[Example], list[Dropped]]:
    """``examples``, whose second response is the draft, with what a policy is asked that is to correct it.

    Args:
        criteria: one for each pair of an example; those that have a pair are told.
        texts: question id and response id -> text.
        max_length: tokens of prompt and response; a longer example is dropped.
    """
    made, dropped = [], []
    for example in examples:
        told = [one for one, pair in zip(criteria, example.pairs, strict=True) if pair]
        asked = correction(texts[example.question_id], texts[example.response_ids[1]], told)
        tree = Tree(tuple(answering_prompt(tokenizer, asked, instruction)), example.tree.responses)
        if tree.depth > max_length:
            reason = f"{example.response_ids[0]} has {tree.depth} tokens with its prompt and a draft, more than"
            dropped.append(Dropped(example.question_id, f"{reason} max_length {max_length}"))
        else:
            made.append(replace(example, tree=tree))
    return made, dropped
