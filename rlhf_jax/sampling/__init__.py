"""Acting: cached decoding for language, plain draws for the rest. Both return trajectories."""
