"""Reward models: tuned, trained, calibrated, out of fold."""
