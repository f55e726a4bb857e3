"""Measurements of the library against other code and against the clock; nothing imports them."""
