"""Runs that check a paper's claim: `python -m experiments list`."""

# GROUP of an experiment -> its title in `list` and on the page of all results, in this order.
GROUPS = {
    "games": "Preference games",
    "mdps": "Planning, imitation and control",
    "feedback": "Teachers, kinds of feedback, queries",
    "rewards": "Reward models",
    "language": "Policy optimisers and language models",
    "objectives": "Several objectives, groups and constraints",
}
