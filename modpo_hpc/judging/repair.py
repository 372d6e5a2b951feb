"""The conversation with a judge whose answer could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modpo_hpc import prompts
from modpo_hpc.judging.opinions import opinions_of
from modpo_hpc.judging.tasks import Unparsed
from modpo_hpc.llm.chat import Message
from modpo_hpc.llm.ledger import Entry


def problem_of(entry: Entry) -> str | None:
    """What is wrong with an answer, in words for the judge; None if nothing is, or nothing can be done."""
    if entry.answer is None:
        return None
    wrong = [
        f"{name}: {opinion.reason}"
        for name, opinion in zip(entry.criteria, opinions_of(entry), strict=True)
        if isinstance(opinion, Unparsed)
    ]
    return "; ".join(wrong) or None


def messages_after(
    first: Sequence[Message], answers: Sequence[Entry], harmless: Callable[[str], str]
) -> tuple[Message, ...]:
    """What to send after ``answers`` that could not be read, of which ``harmless`` makes no control tokens."""
    messages = list(first)
    for entry in answers:
        messages = prompts.repair_messages(messages, harmless(entry.answer or ""), problem_of(entry) or "")
    return tuple(messages)
