"""Objectives: arrays of log-probabilities in, one loss per example out. No model is known here."""
