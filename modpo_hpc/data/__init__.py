"""Questions: read, clean, split."""
