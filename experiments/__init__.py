"""Runs that check a paper's claim: `python -m experiments list`."""
