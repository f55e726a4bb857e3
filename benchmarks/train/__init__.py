"""Training steps of this library, TRL and Tunix on the same weights and tokens.

Each side is a process of its own (`library`, `trl_side`, `tunix_side`), which `sides` gives turns.
"""
