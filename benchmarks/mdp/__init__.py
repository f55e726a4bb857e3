"""Speed of planning in tabular MDPs and of many seeds at once: `python -m benchmarks.mdp`."""
