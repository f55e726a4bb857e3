"""The library's objectives against other libraries' own code, on the same weights and batches."""
