"""Texts into the token batches that a reward model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from modpo_hpc.prompts import reward_pair

_STRETCH = 1.1


@dataclass(frozen=True)
class Encoded:
    """A question and a response as one sequence, not yet cut. Arrays of shape (tokens,).

    ``part`` is 0 for tokens of the question, 1 for those of the response, -1 for special tokens.
    """

    ids: np.ndarray
    types: np.ndarray | None
    part: np.ndarray

    def least_length(self) -> int:
        """Tokens that are left when the question is cut away entirely."""
        return int((self.part != 0).sum())

    def cut(self, max_length: int) -> Encoded:
        """At most ``max_length`` tokens: the question gives way from its end, then the response from its own."""
        excess = len(self.ids) - max_length
        if excess <= 0:
            return self
        order = np.concatenate([np.flatnonzero(self.part == 0)[::-1], np.flatnonzero(self.part == 1)[::-1]])
        keep = np.ones(len(self.ids), dtype=bool)
        keep[order[:excess]] = False
        return Encoded(self.ids[keep], None if self.types is None else self.types[keep], self.part[keep])


def encode_responses(
    tokenizer: Any, questions: Mapping[str, str], responses: Mapping[str, str], question_of: Mapping[str, str]
) -> dict[str, Encoded]:
    """Response id -> question and response, in full length; ``question_of`` names what is wanted."""
    ids = list(question_of)
    if not ids:
        return {}
    pairs = [reward_pair(tokenizer, questions[question_of[one]], responses[one]) for one in ids]
    batch = tokenizer([pair[0] for pair in pairs], [pair[1] for pair in pairs], truncation=False, verbose=False)
    types = batch.get("token_type_ids")
    return {
        one: Encoded(
            np.asarray(batch["input_ids"][place], dtype=np.int64),
            None if types is None else np.asarray(types[place], dtype=np.int64),
            np.asarray([-1 if part is None else part for part in batch.sequence_ids(place)], dtype=np.int8),
        )
        for place, one in enumerate(ids)
    }


def collate(rows: Sequence[Encoded], pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """``rows`` as model inputs of shape (rows, longest), padded on the right."""

    def padded(arrays: Sequence[np.ndarray], filler: int) -> torch.Tensor:
        whole = pad_sequence([torch.from_numpy(one) for one in arrays], batch_first=True, padding_value=filler)
        return whole.to(device, non_blocking=True)

    ids = [row.ids for row in rows]
    inputs = {"input_ids": padded(ids, pad_id), "attention_mask": padded([np.ones_like(one) for one in ids], 0)}
    types = [row.types for row in rows if row.types is not None]
    return {**inputs, "token_type_ids": padded(types, 0)} if types else inputs


def batches_by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices of ``lengths`` in batches of like length: one row, or as many as give ``tokens`` with padding at most.

    No row of a batch is longer than ``_STRETCH`` times the shortest, so that little is padding where rows are few.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        fits = batches and lengths[index] <= max(_STRETCH * lengths[batches[-1][0]], lengths[batches[-1][0]] + 2)
        if fits and lengths[index] * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def shuffled_batches(lengths: Sequence[int], size: int, rng: np.random.Generator, pool: int = 32) -> list[list[int]]:
    """One epoch: random batches of ``size`` indices in which lengths are alike, so that little is padding.

    The indices are shuffled, sorted by length within pools of ``pool`` batches, cut, and the batches shuffled.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * pool):
        part = sorted(order[start : start + size * pool], key=lambda index: -lengths[index])
        batches += [[int(one) for one in part[at : at + size]] for at in range(0, len(part), size)]
    return [batches[place] for place in rng.permutation(len(batches))]


def count_longer(encoded: Iterable[Encoded], max_length: int) -> int:
    """How many responses lose tokens of their own at ``max_length``."""
    return sum(one.least_length() > max_length for one in encoded)
