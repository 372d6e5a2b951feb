"""The offline world: invented questions and survey, tiny models, a rule judge."""
