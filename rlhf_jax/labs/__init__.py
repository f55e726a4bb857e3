"""Worlds with models in them: what several experiments on one world would otherwise copy."""
