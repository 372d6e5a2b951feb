"""Personas: from survey answers to short texts that a judge can take on."""
