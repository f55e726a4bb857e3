"""Methods on fresh answers: `(stage, tools, part, rate) -> params`, all but direct_rl from SFT.

Each draws as many answers and asks the reward of its seed about each once. A new one is an entry of
ONLINE: a function of tools and part that makes a method of `recipes`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools, rated
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.filtration import best_random_weights, best_worst_weights
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Fit,
    OnlineMethod,
    Penalty,
    Reward,
    best_of,
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    online,
    online_pairs,
    osp,
    p3o,
    ppo,
    prompt_rows,
    reinforce,
    rloo,
    stage_key,
    superhf,
    top_of_batch,
)
from rlhf_jax.training import Stage
from rlhf_jax.types import Params, Trajectory

PRIOR = 0.35  # beta of SuperHF
RIDGE = 1.0  # of exploring pairs


class Entry(NamedTuple):
    """make: of tools and part. learned: share of the answers of a step that is learned from."""

    make: Callable[[Tools, Part], OnlineMethod]
    learned: float = 1.0


def pairs(tools: Tools, part: Part, explore: float | None = None) -> OnlineMethod:
    """Online DPO: the best against the worst, or the first against the least known."""
    config = tools.config.online
    loss = partial(dpo_loss, beta=config.pair_beta)
    return online_pairs(tools.lab, loss, samples=config.samples, explore=explore)


def soft(tools: Tools, part: Part, hard: bool = False) -> OnlineMethod:
    """OSP on the comparisons of the reward."""
    config = tools.config.online
    return osp(tools.lab, samples=config.samples, beta=config.pair_beta, hard=hard)


def penalised(tools: Tools, part: Part, method: Any, **options: Any) -> OnlineMethod:
    """A policy gradient with a KL in the reward."""
    config = tools.config.online
    return method(tools.lab, samples=config.samples, kl=Penalty(config.penalty), **options)


def clipped(tools: Tools, part: Part, method: Any, **options: Any) -> OnlineMethod:
    """A policy gradient with a ratio and without a KL, several passes."""
    config = tools.config.online
    return method(tools.lab, samples=config.samples, epochs=config.passes, **options)


def with_critic(tools: Tools, part: Part, keep: Any = None) -> OnlineMethod:
    """PPO, or PF-PPO with a filter."""
    config = tools.config.online
    settings = PPOConfig(beta=config.penalty)
    given: dict[str, Any] = {"samples": config.samples, "keep": keep, "epochs": config.passes}
    return ppo(tools.lab, settings, part.critic, **given)


def pairwise(tools: Tools, part: Part) -> OnlineMethod:
    """P3O, V2."""
    config = tools.config.online
    options: dict[str, Any] = {
        "samples": config.samples,
        "beta": config.penalty,
        "epochs": config.passes,
    }
    return p3o(tools.lab, **options)


def selected(tools: Tools, part: Part, method: Any, **options: Any) -> OnlineMethod:
    """Maximum likelihood of the best of K."""
    return method(tools.lab, samples=tools.config.online.samples, **options)


ONLINE: dict[str, Entry] = {
    "raft": Entry(partial(selected, method=best_of), 0.25),
    "rloo": Entry(partial(penalised, method=rloo)),
    "grpo": Entry(partial(clipped, method=grpo, kl=Penalty(0.04, k3))),
    "ppo": Entry(with_critic),
    "online_dpo": Entry(pairs, 0.5),
    "osp": Entry(soft),
    "osp_hard": Entry(partial(soft, hard=True)),
    "raft_global": Entry(partial(selected, method=top_of_batch), 0.25),
    "superhf": Entry(partial(selected, method=superhf, beta=PRIOR), 0.25),
    "reinforce": Entry(partial(penalised, method=reinforce)),
    "dr_grpo": Entry(partial(clipped, method=dr_grpo)),
    "dapo": Entry(partial(clipped, method=dapo, rounds=None)),
    "gspo": Entry(partial(clipped, method=gspo)),
    "cispo": Entry(partial(clipped, method=cispo)),
    "pf_ppo_worst": Entry(partial(with_critic, keep=best_worst_weights), 0.5),
    "pf_ppo_random": Entry(partial(with_critic, keep=best_random_weights)),
    "p3o": Entry(pairwise),
    "explore": Entry(partial(pairs, explore=RIDGE), 0.5),
    "direct_rl": Entry(with_critic),  # PPO, from another start
}


def fit_online(
    stage: Stage,
    tools: Tools,
    part: Part,
    rate: float,
    *,
    method: OnlineMethod,
    start: Params | None = None,
    reward: Reward | None = None,
    steps: int | None = None,
) -> Params:
    """A method against the reward of the seed.

    Args:
      start: another policy than SFT to start from. reward, steps: another reward or length, for the
        controls.
    """
    config, lab = tools.config.online, tools.judged._replace(seed=part.lab.seed)
    steps = config.steps if steps is None else steps
    epochs = (method.passes or (1, 1))[0]
    fit = Fit(rated(rate, steps * epochs), steps, save_every=steps)
    prompts = config.answers // method.samples
    rows = prompt_rows(tools.task, batch_size=prompts, seed=lab.seed)
    reward = with_prefs(part.reward(tools), part) if reward is None else reward
    key = stage_key(lab, "online")
    first = tools.start if start is None else start
    return online(stage, lab, tools.task, method, reward, first, rows, fit, key=key)


def with_prefs(reward: Reward, part: Part) -> Reward:
    """The reward with P(row beats column), which its log-odds give."""

    def prefs(params: Any, given: Any, trajectory: Trajectory) -> jax.Array:
        logits = reward.scores(params, given, trajectory) * params["std"]
        return jax.nn.sigmoid(logits[..., :, None] - logits[..., None, :])

    return reward._replace(prefs=prefs)


def update_tokens(lengths: np.ndarray, name: str, method: OnlineMethod, answers: int) -> float:
    """Tokens learned from, from the mean length [steps] of an answer in each step."""
    passes = (method.passes or (1, 1))[0]
    return float(lengths.sum()) * answers * ONLINE[name].learned * passes
