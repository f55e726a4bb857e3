"""Cached decoding of this library, `transformers` and Tunix on the same weights and prompts.

Each side is a process of its own (`library`, `transformers_side`, `tunix_side`); `sides` gives them
turns.
"""
