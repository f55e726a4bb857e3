"""Measurements of the library against other code and against the clock; only tests import them."""
