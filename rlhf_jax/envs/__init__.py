"""Worlds: bandits, preference games and the shop."""
