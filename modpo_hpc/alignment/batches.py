"""Batches are a plan: a pure function of seed, epoch, lengths and the number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modpo_hpc.seeds import rng_of

_WINDOW = 8


@dataclass(frozen=True)
class OptimizerStep:
    """One optimizer step: ``parts[rank][i]`` holds the places of the examples of a process's i-th forward pass.

    Every process has the same number of passes; a pass may be empty at the ragged end.
    """

    epoch: int
    parts: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def places(self) -> list[int]:
        """Places of the examples of the step, over all processes."""
        return [place for rank in self.parts for part in rank for place in part]


def plan_batches(
    lengths: Sequence[int],
    seed: int,
    epochs: int,
    batch_size: int,
    micro_batch_size: int,
    processes: int = 1,
    pass_tokens: int | None = None,
) -> list[OptimizerStep]:
    """Every step of a training run, in order.

    Which examples share a step does not depend on ``processes``, ``micro_batch_size`` or ``pass_tokens``: only how
    they are dealt out does. Steps gather examples of like length (within a window of shuffled batches), so that
    processes and passes have like work.
    """
    return [
        OptimizerStep(epoch, _deal(batch, lengths, micro_batch_size, processes, pass_tokens))
        for epoch in range(epochs)
        for batch in _shuffled_batches(lengths, seed, epoch, batch_size)
    ]


def _shuffled_batches(lengths: Sequence[int], seed: int, epoch: int, size: int) -> list[list[int]]:
    rng = rng_of(seed, "batches", epoch)
    order = [int(place) for place in rng.permutation(len(lengths))]
    window = size * _WINDOW
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        alike = sorted(order[start : start + window], key=lambda place: lengths[place])
        batches += [alike[first : first + size] for first in range(0, len(alike), size)]
    return [batches[int(number)] for number in rng.permutation(len(batches))]


def _deal(
    batch: list[int], lengths: Sequence[int], micro_batch_size: int, processes: int, pass_tokens: int | None
) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Snake order over the processes: longest first, so that their sums of lengths stay close."""
    hands: list[list[int]] = [[] for _ in range(processes)]
    for turn, place in enumerate(sorted(batch, key=lambda one: (-lengths[one], one))):
        lap, rank = divmod(turn, processes)
        hands[rank if lap % 2 == 0 else processes - 1 - rank].append(place)
    parts = [in_passes(hand, lengths, micro_batch_size, pass_tokens) for hand in hands]
    longest = max(1, *map(len, parts))
    return tuple((*one, *([()] * (longest - len(one)))) for one in parts)


def in_passes(
    hand: Sequence[int], lengths: Sequence[int], micro_batch_size: int, pass_tokens: int | None
) -> list[tuple[int, ...]]:
    """``hand`` in passes of at most so many examples and tokens; an example of more tokens has a pass of its own."""
    passes: list[list[int]] = []
    tokens = 0
    for place in hand:
        fits = pass_tokens is None or tokens + lengths[place] <= pass_tokens
        if passes and len(passes[-1]) < micro_batch_size and fits:
            passes[-1].append(place)
            tokens += lengths[place]
        else:
            passes.append([place])
            tokens = lengths[place]
    return [tuple(one) for one in passes]
