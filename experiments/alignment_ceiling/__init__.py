"""Objective mismatch: a reward model at its accuracy ceiling, optimised until gold falls."""

PAPER = "Lambert and Calandra 2023 (The Alignment Ceiling), arXiv:2311.00168"
CLAIM = "A reward model as accurate as its labels allow still leads policies past the gold peak"
MINUTES = 2
GROUP = "rewards"
