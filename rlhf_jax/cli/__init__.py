"""`rlhf`: train, sample and evaluate language models from the command line.

A command is one frozen dataclass of options and one function (`commands`). Options that commands
share are parts of their dataclasses (`options`); what surrounds a recipe is in `session`.
"""

from rlhf_jax.cli.main import main as main
