"""Careful work in general: what a shard is made from, where its results are, and what was read."""
