"""Policies, values and rewards in three parametrisations: a table, a linear map, a transformer."""
