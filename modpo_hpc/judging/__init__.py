"""Personas rank responses and compare policies: assignments, judges, the ledger of raw answers, votes."""
