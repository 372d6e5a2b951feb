"""Personas judge: assignments, judges, the ledger of raw answers, votes."""
