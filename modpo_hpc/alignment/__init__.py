"""Policies: losses, the training loop, adapters and their merges."""
