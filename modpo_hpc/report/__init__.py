"""Figures, tables and pages of a finished run."""
