"""What makes a reward model impossible, found before anything is trained or queued."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from modpo_hpc.errors import InputError
from modpo_hpc.rewards.encoding import Encoded
from modpo_hpc.rewards.records import Comparison, Texts
from modpo_hpc.study.rewards import Rewards

FEWEST_QUESTIONS = 8


def check_lengths(options: Rewards, longest: int) -> None:
    """Refuse lengths that the model cannot read (``longest`` tokens are the most it can)."""
    wanted = lengths_of(options)
    if max(wanted) > longest:
        raise InputError(
            f"the reward model reads {longest} tokens at most",
            field="rewards.search.max_length" if options.search.trials else "rewards.settings.max_length",
            value=max(wanted),
            remedy=f"Give lengths up to {longest}, or another models.reward.",
        )


def check_comparisons(criterion: str, comparisons: Sequence[Comparison], tied: int, texts: Texts, file: str) -> None:
    """Refuse a criterion whose pairs teach nothing; ``tied`` questions have votes but no best response."""

    def refuse(problem: str, remedy: str) -> InputError:
        return InputError(problem, file=file, field=f"criterion {criterion}", remedy=remedy)

    if not comparisons and not tied:
        raise refuse("this criterion has no pairs", "See whether its rankings were parsed: modpo rerun DIR rankings")
    if not comparisons:
        raise refuse(
            f"the votes of all {tied} questions are tied, so that no response is better than another",
            "Ask more personas for each question, or leave this criterion out of criteria.rank.",
        )
    if len(comparisons) < FEWEST_QUESTIONS:
        raise refuse(
            f"only {len(comparisons)} questions have a best and a worst response; {FEWEST_QUESTIONS} are the least",
            "Take more training questions (data.use_train) or more personas.",
        )
    if all(texts.responses[one.responses[0]] == texts.responses[one.responses[-1]] for one in comparisons):
        raise refuse(
            "the best and the worst response have the same text in every pair",
            "Sample the responses at a higher temperature.",
        )
    places = {_places(one, texts.responses_of[one.question_id]) for one in comparisons}
    if len(places) == 1 and len(texts.responses_of[comparisons[0].question_id]) > 1:
        best, worst = places.pop()
        raise refuse(
            f"there is one class only: response number {best} is the best and number {worst} the worst in all "
            f"{len(comparisons)} pairs",
            "The judge votes by place and not by text; see how it is asked and how its answers are read.",
        )


def check_responses(criterion: str, encoded: Mapping[str, Encoded], options: Rewards, file: str) -> None:
    """Refuse responses that are longer than the longest ``max_length``, unless the study allows to cut them."""
    longest = max(lengths_of(options))
    overlong = [one for one, text in encoded.items() if text.least_length() > longest]
    if overlong and options.overlong == "refuse":
        raise InputError(
            f"{len(overlong)} responses of criterion {criterion} are longer than {longest} tokens, before any question "
            f"is read with them (the longest has {max(encoded[one].least_length() for one in overlong)})",
            file=file,
            field="response_id",
            value=overlong[0],
            remedy="Lower generation.responses.max_tokens, raise max_length, or allow rewards.overlong: cut.",
        )


def lengths_of(options: Rewards) -> Collection[int]:
    """Every ``max_length`` that a model of the study may have."""
    return options.search.max_length if options.search.trials else (options.settings.max_length,)


def _places(comparison: Comparison, responses: Sequence[str]) -> tuple[int, int]:
    return responses.index(comparison.responses[0]), responses.index(comparison.responses[-1])
