"""Worlds: bandits, teachers that label, and the shop."""
