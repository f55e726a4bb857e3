"""What craft_gui claims, from the arrays of its trainings; seeds are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.craft_gui.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
DESIGN = "acceptance of this design, from a NumPy run of it"
ORDER = ("curriculum", "mixed", "hard first", "hard only")


def hard(stage: Arrays, reward: str, schedule: str) -> np.ndarray:
    """[N] success on hard tasks at the end."""
    return stage[f"{reward}/{schedule}/hard"][:, -1]


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    full, short = stages["full"], stages["short"]
    found = [*order_claims(config, full, short), *reward_claims(config, full)]
    return found + (language_claims(config, stages["language"]) if "language" in stages else [])


def order_claims(config: Config, full: Arrays, short: Arrays) -> list[Claim]:
    """What comes first, under the outcome alone."""
    ends = np.stack([hard(full, "outcome", name) for name in ORDER])
    ordered = np.all(np.diff(ends, axis=0) < 0, axis=0)
    null = hard(full, "outcome", "mixed") > np.roll(hard(full, "outcome", "mixed"), 1)
    lead, other = (
        hard(short, "outcome", name) - hard(short, "outcome", "mixed")
        for name in ("curriculum", "hard first")
    )
    return [
        Claim(
            f"outcome, {config.updates} updates: share of {ends.shape[1]} seeds with curriculum > "
            "mixed > hard first > hard only on hard tasks",
            ordered.mean(),
            ">=",
            0.9,
            kind="ours",
            source=DESIGN,
            baseline=("mixed above mixed of another seed", null.mean()),
        ),
        mean_claim(
            f"outcome, {config.short_updates} updates: hard success of curriculum minus mixed",
            lead,
            ">=",
            0.2,
            kind="paper",
            source="abstract: difficulty must be taken into account; threshold of this design",
            baseline=("hard first", other.mean()),
        ),
        mean_claim(
            f"outcome, {config.updates} updates: hard success of hard only",
            ends[-1],
            "<",
            0.05,
            kind="ours",
            source="S(a^6) = 1.7e-4: no group carries a signal",
            baseline=("curriculum", ends[0].mean()),
        ),
    ]


def reward_claims(config: Config, full: Arrays) -> list[Claim]:
    """What rewards of steps add."""
    gains = {name: hard(full, "steps", name) - hard(full, "outcome", name) for name in ORDER}
    about = f"{config.dense:g} of the reward for steps, {config.updates} updates"
    paper = "abstract: one coarse reward is not enough; threshold of this design"
    return [
        mean_claim(
            f"{about}: hard success of hard only",
            hard(full, "steps", "hard only"),
            ">=",
            0.7,
            kind="paper",
            source=paper,
            baseline=("outcome", hard(full, "outcome", "hard only").mean()),
        ),
        mean_claim(
            f"{about}: gain in hard success of mixed over the outcome alone",
            gains["mixed"],
            ">=",
            0.03,
            kind="paper",
            source=paper,
            baseline=("curriculum", gains["curriculum"].mean()),
        ),
    ]


def in_bin(config: Config, found: Arrays, name: str, *, easy: bool = False) -> np.ndarray:
    """[S] success on the held-out tasks of the phone's hard bin, or of one action, by seed."""
    horizons = found["horizons"]
    chosen = horizons == 1 if easy else horizons > config.language.longest // 2
    return found[name][:, chosen].mean((1, 2))


def language_claims(config: Config, found: Arrays) -> list[Claim]:
    """A transformer on the text phone; a start with its two trainings is a unit."""
    start, curriculum, mixed = (
        in_bin(config, found, name) for name in ("start", "curriculum", "mixed")
    )
    random = found["random"][config.language.longest // 2 :].mean()
    where = f"text phone, hard tasks on unseen layouts, {config.language.seeds} seeds"
    return [
        mean_claim(
            "text phone, one action on unseen layouts: success of the start",
            in_bin(config, found, "start", easy=True),
            ">=",
            config.language.gate,
            kind="ours",
            source="competence before any RL",
            baseline=("random actions", found["random"][0]),
        ),
        mean_claim(
            f"{where}: curriculum minus the start",
            curriculum - start,
            ">",
            0.0,
            kind="ours",
            source="GRPO improves what it is paid for",
            baseline=("random actions", random - start.mean()),
        ),
        mean_claim(
            f"{where}: curriculum minus mixed",
            curriculum - mixed,
            ">",
            0.0,
            kind="paper",
            source="abstract: difficulty must be taken into account; as many episodes of both",
            baseline=("the start minus mixed", (start - mixed).mean()),
        ),
    ]
