"""Recipes that stand in for those of ``jobs/`` in a rehearsal."""
