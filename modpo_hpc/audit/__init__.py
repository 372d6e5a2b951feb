"""Audit: what the judge, the design and the sample do to the conclusions, and what to do about it next."""
