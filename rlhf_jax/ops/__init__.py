"""Arithmetic on arrays of log-probabilities: no model, no loss, no state."""
