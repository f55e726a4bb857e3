"""Closed forms and solvers that the sampled methods are held against."""
