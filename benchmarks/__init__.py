"""Figures: raw samples, machine facts and ratios to a baseline of the same run."""
