"""From the run's tables to what trials and trainings work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modpo_hpc.models import reward_model_path
from modpo_hpc.rewards.check import check_comparisons, check_lengths, check_responses
from modpo_hpc.rewards.encoding import Encoded, encode_responses
from modpo_hpc.rewards.model import load_tokenizer, longest_input
from modpo_hpc.rewards.records import Comparison, Texts, comparisons_of, read_pairs, read_texts
from modpo_hpc.rewards.splits import fold_of_question, held_out_questions
from modpo_hpc.rewards.trial import TrialData
from modpo_hpc.run import Run


def check_pairs(run: Run, criterion: str, pairs: Sequence[Mapping[str, Any]], tied: int) -> None:
    """Check the rows of ``pairs`` that ``vote`` made (of ``tied`` questions it made none), before trials are queued.

    Raises:
        InputError: no reward model can be trained with them, and why.
    """
    path, options = reward_model_path(run), run.study.rewards
    loss = "plackett_luce" if options.compare_losses else options.loss
    usable_comparisons(run, criterion, pairs, loss, path, load_tokenizer(path), read_texts(run), tied)


def load_trial_data(run: Run, criterion: str) -> TrialData:
    """What the trials of ``criterion`` work on, the held-out questions apart.

    Raises:
        InputError: the pairs of the criterion teach nothing, or texts are too long.
    """
    path = reward_model_path(run)
    tokenizer, texts = load_tokenizer(path), read_texts(run)
    comparisons, encoded = load_comparisons(run, criterion, run.study.rewards.loss, path, tokenizer, texts)
    seed = run.seed("rewards", "held_out")
    held_out = held_out_questions([one.question_id for one in comparisons], run.study.rewards.held_out, seed)
    return TrialData(
        model=path,
        pad_id=tokenizer.pad_token_id,
        training=[one for one in comparisons if one.question_id not in held_out],
        held_out=[one for one in comparisons if one.question_id in held_out],
        encoded=encoded,
    )


def load_comparisons(
    run: Run, criterion: str, loss: str, path: str, tokenizer: Any, texts: Texts
) -> tuple[list[Comparison], dict[str, Encoded]]:
    """What ``loss`` reads of ``criterion`` and its encoded responses, checked. Raises as ``load_trial_data``."""
    return usable_comparisons(run, criterion, read_pairs(run, criterion), loss, path, tokenizer, texts)


def usable_comparisons(
    run: Run,
    criterion: str,
    pairs: Sequence[Mapping[str, Any]],
    loss: str,
    path: str,
    tokenizer: Any,
    texts: Texts,
    tied: int = 0,
) -> tuple[list[Comparison], dict[str, Encoded]]:
    """The comparisons that ``pairs`` hold and their encoded responses, checked. Raises as ``load_trial_data``.

    Bradley-Terry reads the best and the worst response of each; Plackett-Luce the whole ranking.
    """
    options, file = run.study.rewards, str(run.table_path("pairs", criterion))
    comparisons = comparisons_of(pairs)
    if loss == "bradley_terry":
        comparisons = [one.pair() for one in comparisons]
    check_lengths(options, longest_input(path, tokenizer))
    check_comparisons(criterion, comparisons, tied, texts, file)
    wanted = {one: each.question_id for each in comparisons for one in each.responses}
    encoded = encode_responses(tokenizer, texts.questions, texts.responses, wanted)
    check_responses(criterion, encoded, options, file)
    return comparisons, encoded


def folds_of(run: Run, texts: Texts) -> dict[str, int]:
    """Fold of every training question, the same for all criteria."""
    return fold_of_question(texts.questions, run.study.rewards.folds, run.seed("rewards", "folds"))
