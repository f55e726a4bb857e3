"""What p3o claims of its runs, and the baselines that must fail."""

from collections.abc import Mapping

import numpy as np

from experiments.p3o.config import Config
from experiments.p3o.learners import LEARNERS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Arrays = Mapping[str, np.ndarray]
P3O = ("P3O-V1", "P3O-V2")
MEAN, WHITENED, CRITIC = "PPO, batch mean", "PPO, whitened", "PPO, V(x)"
SPEC = "acceptance of this design, from a NumPy run of it"
OPTIMUM = 1.225  # of the worlds of that run
LEVELS = ((MEAN, "<=", 0.7), (WHITENED, "<=", 1.0), *((name, ">=", 1.15) for name in P3O))
LAST = 10  # iterations of the transformer that are averaged


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Every claim of the run."""
    bandit = stages["bandit"]
    return [
        *gradient_claims(stages["gradients"]),
        *shift_claims(config, bandit),
        spread_claim(config, bandit),
        *level_claims(config, bandit),
        *share_claims(config, bandit),
        critic_claim(config, bandit),
        string_claim(config, stages["strings"]),
    ]


def ends(config: Config, bandit: Arrays, setting: int) -> dict[str, np.ndarray]:
    """name -> E r - beta KL [N] at the end of a setting."""
    beta = config.settings()[setting][1]
    return {
        name: bandit[f"{name}/reward"][:, setting, -1] - beta * bandit[f"{name}/kl"][:, setting, -1]
        for name in LEARNERS
    }


def gradient_claims(gradients: Arrays) -> list[Claim]:
    """The estimator is exact; enumerated, so there is no interval."""
    size = f"{len(gradients['V1'])} bandits of six arms, all pairs"
    return [
        Claim(
            f"{name}, {size}: largest error of the expected gradient",
            gradients[name].max(),
            "<=",
            1e-12,
            kind="theorem",
            source="Theorem 1 (with importance weights)" if name[0] == "V" else "Section 4",
            baseline=("V1 with its clip", gradients["V1, clipped"].min()),
        )
        for name in ("pairwise gradient", "V1", "V2")
    ]


def shift_claims(config: Config, bandit: Arrays) -> list[Claim]:
    """A shift by prompt changes no step of P3O."""
    return [
        Claim(
            f"{name}, s = {config.shift:g}: largest change of reward, KL or a logit in "
            f"{config.iterations} iterations, {config.num_seeds} worlds",
            bandit[f"{name}/shifted"].max(),
            "<=",
            1e-10,
            kind="theorem",
            source="invariance under equivalent rewards, Definition 2; float64",
            baseline=(MEAN, bandit[f"{MEAN}/shifted"].min()),
        )
        for name in P3O
    ]


def spread_claim(config: Config, bandit: Arrays) -> Claim:
    """Without a shift the methods are alike."""
    plain, shifted = (np.stack(list(ends(config, bandit, i).values()), axis=-1) for i in range(2))
    return bootstrap_claim(
        f"s = 0, {config.num_seeds} worlds: best minus worst mean objective of the six methods",
        spread,
        [plain],
        "<=",
        0.05,
        kind="ours",
        source=SPEC,
        baseline=(f"s = {config.shift:g}", spread(shifted)),
    )


def spread(objectives: np.ndarray) -> float:
    """Range of the means over worlds, from [N, methods]."""
    return float(np.ptp(objectives.mean(0)))


def level_claims(config: Config, bandit: Arrays) -> list[Claim]:
    """Where the methods end with a shift: means, and the worst world for the claim."""
    plain, shifted = (ends(config, bandit, i) for i in range(2))
    size = f"s = {config.shift:g}, {config.num_seeds} worlds: E r - beta KL"
    found = []
    for name, op, level in LEVELS:
        worst = np.max if op == "<=" else np.min
        other = (f"{name}, s = 0", plain[name]) if op == "<=" else (WHITENED, shifted[WHITENED])
        found += [
            mean_claim(
                f"{name}, {size}",
                shifted[name],
                op,
                level,
                baseline=(other[0], other[1].mean()),
                kind="ours",
                source=SPEC,
            ),
            Claim(
                f"{name}, {size}, in the worst of these worlds for the claim",
                worst(shifted[name]),
                op,
                level,
                baseline=(other[0], worst(other[1])),
                kind="ours",
                source=SPEC,
            ),
        ]
    return found


def share_claims(config: Config, bandit: Arrays) -> list[Claim]:
    """The same without the suspected cause of a failure, worlds with other optima."""
    plain, shifted = (ends(config, bandit, i) for i in range(2))
    best, found = bandit["optimum"][:, 1], []
    for name, op, level in LEVELS:
        worst = np.max if op == "<=" else np.min
        other = (f"{name}, s = 0", plain[name]) if op == "<=" else (WHITENED, shifted[WHITENED])
        found.append(
            Claim(
                f"{name}, s = {config.shift:g}, {config.num_seeds} worlds: share of the world's "
                "optimum, in the worst of these worlds for the claim",
                worst(shifted[name] / best),
                op,
                level / OPTIMUM,
                kind="ours",
                source=f"{level:g} of the optimum {OPTIMUM:g} of that run",
                baseline=(other[0], worst(other[1] / best)),
            )
        )
    return found


def critic_claim(config: Config, bandit: Arrays) -> Claim:
    """A critic of each prompt is a baseline too."""
    plain, shifted = (ends(config, bandit, i) for i in range(2))
    return mean_claim(
        f"{CRITIC}, s = {config.shift:g}: objective minus that at s = 0",
        shifted[CRITIC] - plain[CRITIC],
        ">=",
        -0.05,
        kind="ours",
        source="a perfect critic removes the problem; tolerance as at s = 0",
        baseline=(WHITENED, np.mean(shifted[WHITENED] - plain[WHITENED])),
    )


def string_ends(config: Config, strings: Arrays, name: str) -> np.ndarray:
    """[N, 2] E r - beta KL of the last answers, without and with the shift."""
    found = strings[f"{name}/reward"] - config.strings.beta * strings[f"{name}/kl"]
    return found[..., -LAST:].mean(-1)


def string_claim(config: Config, strings: Arrays) -> Claim:
    """The same with a transformer: what the shift costs PPO."""
    p3o, ppo, rloo = (string_ends(config, strings, x) for x in ("P3O-V2", WHITENED, "RLOO"))
    cost, other = ((p3o - x)[:, 1] - (p3o - x)[:, 0] for x in (ppo, rloo))
    return mean_claim(
        f"Transformer, {len(p3o)} worlds: lead of P3O-V2 over {WHITENED} at s = {config.shift:g} "
        "minus that at s = 0",
        cost,
        ">",
        0.0,
        kind="ours",
        source="the bandit's order, expected of a sequence model too",
        baseline=("lead over RLOO", other.mean()),
    )
