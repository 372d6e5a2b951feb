"""From the run's tables to what trials and trainings work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modpo_hpc.models import reward_model_path
from modpo_hpc.rewards.check import check_comparisons, check_lengths, check_responses
from modpo_hpc.rewards.encoding import Encoded, encode_responses
from modpo_hpc.rewards.model import RewardModel, load_reward_model, load_tokenizer, longest_input
from modpo_hpc.rewards.records import Comparison, Texts, comparisons_of, read_pairs, read_texts
from modpo_hpc.run import Run
from modpo_hpc.seeds import seed_of


class Reading:
    """What the reward models of a run begin as and read: the encoder with its tokenizer, the texts."""

    def __init__(self, run: Run) -> None:
        self.run, self.path = run, reward_model_path(run)
        self.tokenizer, self.texts = load_tokenizer(self.path), read_texts(run)

    def comparisons(
        self, criterion: str, loss: str, pairs: Sequence[Mapping[str, Any]] | None = None, tied: int = 0
    ) -> tuple[list[Comparison], dict[str, Encoded]]:
        """What ``loss`` reads of ``pairs`` (by default the run's) and the encoded responses, checked.

        Bradley-Terry reads the best and the worst response of each; Plackett-Luce the whole ranking.

        Raises:
            InputError: the pairs teach nothing, or texts are too long.
        """
        options, file = self.run.study.rewards, str(self.run.table_path("pairs", criterion))
        comparisons = comparisons_of(read_pairs(self.run, criterion) if pairs is None else pairs)
        if loss == "bradley_terry":
            comparisons = [one.pair() for one in comparisons]
        check_lengths(options, longest_input(self.path, self.tokenizer))
        check_comparisons(criterion, comparisons, tied, self.texts, file)
        wanted = {one: each.question_id for each in comparisons for one in each.responses}
        encoded = encode_responses(self.tokenizer, self.texts.questions, self.texts.responses, wanted)
        check_responses(criterion, encoded, options, file)
        return comparisons, encoded

    def fresh_model(self, dropout: float, seed: int) -> RewardModel:
        """The encoder with a new head drawn from ``seed``, to be trained."""
        options = self.run.study.rewards
        return load_reward_model(
            self.path,
            self.tokenizer.pad_token_id,
            dropout=dropout,
            seed=seed,
            precision=options.precision,
            gradient_checkpointing=options.gradient_checkpointing,
        )


@dataclass(frozen=True)
class TrialData:
    """What every trial of a criterion works on: comparisons to learn from and to be held to."""

    reading: Reading
    training: list[Comparison]
    held_out: list[Comparison]
    encoded: Mapping[str, Encoded]


def check_pairs(run: Run, criterion: str, pairs: Sequence[Mapping[str, Any]], tied: int) -> None:
    """Check the rows of ``pairs`` that ``vote`` made (of ``tied`` questions it made none), before trials are queued.

    Raises:
        InputError: no reward model can be trained with them, and why.
    """
    options = run.study.rewards
    Reading(run).comparisons(criterion, "plackett_luce" if options.compare_losses else options.loss, pairs, tied)


def load_trial_data(run: Run, criterion: str) -> TrialData:
    """What the trials of ``criterion`` work on, the held-out questions apart. Raises as ``Reading.comparisons``."""
    reading, options = Reading(run), run.study.rewards
    comparisons, encoded = reading.comparisons(criterion, options.loss)
    ids = [one.question_id for one in comparisons]
    held_out = first_share(ids, options.held_out, run.seed("rewards", "held_out"))
    return TrialData(
        reading,
        training=[one for one in comparisons if one.question_id not in held_out],
        held_out=[one for one in comparisons if one.question_id in held_out],
        encoded=encoded,
    )


def folds_of(run: Run, texts: Texts) -> dict[str, int]:
    """Fold of every training question, the same for all criteria."""
    return fold_of_question(texts.questions, run.study.rewards.folds, run.seed("rewards", "folds"))


def first_share(question_ids: Iterable[str], share: float, seed: int) -> set[str]:
    """``share`` of the questions, one at least, by the hash of each id; a larger share holds every smaller one."""
    shuffled = _shuffled(question_ids, seed)
    return set(shuffled[: max(1, round(share * len(shuffled)))])


def fold_of_question(question_ids: Iterable[str], folds: int, seed: int) -> dict[str, int]:
    """Question -> fold; the folds' sizes differ by one at most."""
    return {question_id: place % folds for place, question_id in enumerate(_shuffled(question_ids, seed))}


def _shuffled(question_ids: Iterable[str], seed: int) -> list[str]:
    return sorted(set(question_ids), key=lambda question_id: (seed_of(seed, question_id), question_id))
