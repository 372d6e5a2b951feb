"""Judges behind an OpenAI-compatible endpoint: what is sent, how fast, what it may cost, and what comes back."""
