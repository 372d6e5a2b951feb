"""Statistics of verdicts, agreement, toxicity."""
