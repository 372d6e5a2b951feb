"""What the report's terms mean, for a reader from another field: on hover, and as a list at the end of the page."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

TERMS = {
    "policy": "A language model as it answers after training, or the base model as it is.",
    "persona": "A description of a person, made from answers to a survey, that the judge plays.",
    "anchor": "The criterion whose preference pairs a multi-objective policy is trained on; others come in as rewards.",
    "SFT": "Supervised fine-tuning: the model learns to write the preferred responses.",
    "DPO": "Direct preference optimization: the model learns to make preferred responses likelier than rejected ones.",
    "MODPO": "Multi-objective DPO: DPO on one criterion, with the rewards of others as margins, by weights.",
    "Joint-Loss DPO": "DPO on several criteria at once: the weighted sum of their losses.",
    "soup": "An average of the weights of several trained policies.",
    "win rate": "Share of the questions on which the majority of the personas prefers the policy's answer.",
    "majority": "More personas prefer this answer than the other one; as many on each side is a tie.",
    "interval": "Where the number falls when questions and personas are drawn again, in the named share of draws.",
    "P(best)": "Share of the draws of questions and personas in which the policy comes first.",
    "McNemar's test": "Whether one policy wins questions more often than the other; ties are left out.",
    "p": "How often as large a difference as this one would come about if the two policies were equally good.",
    "Holm": "A correction of p-values where many pairs are compared, so that chance alone marks none.",
    "odds ratio": "Questions won by A for each question won by B.",
    "Pareto front": "The policies that no other one beats by every criterion at once.",
    "hypervolume": "Share of all combinations of win rates that some policy reaches; 1 is everything.",
    "Bradley-Terry": "A model that gives each policy one strength, such that differences of strength give the votes.",
    "bootstrap": "Drawing questions and personas again, with replacement, to see how much a number depends on them.",
    "placebo": "The same training with the other criteria's rewards shuffled: what remains of it is not their doing.",
    "kappa": "Agreement beyond what chance alone would give; 1 is full agreement, 0 is chance.",
}
_FOUND = re.compile(
    "(?<![\\w-])(?:" + "|".join(re.escape(term) for term in sorted(TERMS, key=len, reverse=True) if term != "p")
    + ")(?![\\w-])"
)  # fmt: skip


def anchor_of(term: str) -> str:
    """The place of ``term`` in the list."""
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def explained(text: str) -> Markup:
    """``text`` as HTML in which the first mention of each term tells what it means and leads to the list."""
    seen: set[str] = set()

    def link(match: re.Match[str]) -> str:
        term = match.group()
        if term in seen:
            return term
        seen.add(term)
        return f'<a class="term" href="#{anchor_of(term)}" title="{escape(TERMS[term])}">{term}</a>'

    return Markup(_FOUND.sub(link, str(escape(text)).replace("&#39;", "'")))
