"""The stages of a study, in the order in which work flows."""
