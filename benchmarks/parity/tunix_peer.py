"""Tunix, in an environment of its own: its requirements and TRL's do not fit into one.

`--tunix-python` or RLHF_JAX_TUNIX_PYTHON names that environment's interpreter. It runs
`tunix_child.py` once; this half compares what came back with this library's functions.
"""

import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, Run, deviation
from benchmarks.parity.draw import GROUP
from benchmarks.parity.table_policy import group_answers, pair, pair_answers
from rlhf_jax.losses import answer_policy_gradient as answered
from rlhf_jax.losses import group_policy_gradient as grouped
from rlhf_jax.losses import policy_gradient, preference
from rlhf_jax.ops import groups, masking, returns
from rlhf_jax.ops.logprobs import entropy

NORMALISED = "group_normalised_advantages at Tunix's eps, 1e-6"
ROOT = Path(__file__).parents[2]
BETA, SMOOTHING, LOW, HIGH, KL, GAMMA, LAMBDA = 0.8, 0.1, 0.2, 0.28, 0.1, 0.9, 0.8
Loss = Callable[[jax.Array], jax.Array]


@functools.cache
def peer_arrays(python: str) -> dict[str, np.ndarray]:
    """Everything Tunix computed, as the interpreter `python` wrote it."""
    with tempfile.TemporaryDirectory(prefix="parity_") as folder:
        out = Path(folder) / "tunix.npz"
        command = [python, "-m", "benchmarks.parity.tunix_child", str(out)]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        return dict(np.load(out))


def versions(python: str) -> list[str]:
    """Packages of Tunix's environment."""
    return peer_arrays(python)["versions"].tolist()


def peer_run(python: str, name: str) -> Run:
    """One objective of the child."""
    found = peer_arrays(python)
    value, gradient, path = (found[f"{name}/{field}"] for field in ("value", "gradient", "path"))
    return Run(value, gradient, path, float(found[f"{name}/rate"]))


def orpo(params: jax.Array) -> jax.Array:
    """Tunix's: token mean of each chosen answer, and odds of summed log-probs."""
    chosen, rejected = pair_answers(params, "chosen"), pair_answers(params, "rejected")
    odds = preference.odds_ratio_loss(chosen.logps, rejected.logps)
    return jnp.mean(preference.sft_loss(chosen.means) + BETA * odds)


def paper_orpo(params: jax.Array) -> jax.Array:
    """The paper's: odds of log-probs averaged over tokens."""
    chosen, rejected = pair_answers(params, "chosen"), pair_answers(params, "rejected")
    return jnp.mean(preference.orpo_loss(chosen.means, rejected.means, beta=BETA))


def orpo_gap() -> float:
    """How far Tunix's ORPO gradient is from the paper's at the committed weights, relatively."""
    theirs, paper = (np.asarray(jax.grad(f)(load("weights").policy)) for f in (orpo, paper_orpo))
    return deviation(theirs, paper)


def pair_rows() -> list[tuple[str, str, Loss, str]]:
    """DPO, its smoothed form, and ORPO."""

    def dpo(params):
        return jnp.mean(preference.dpo_loss(*pair(params).logps, beta=BETA))

    def cdpo(params):
        logps = pair(params).logps
        return jnp.mean(preference.cdpo_loss(*logps, beta=BETA, label_smoothing=SMOOTHING))

    note = (
        "odds_ratio_loss of summed log-probs, as Tunix has it; the paper averages over tokens, "
        f"which changes this gradient by {100 * orpo_gap():.0f}%"
    )
    return [
        ("DPO", "dpo", dpo, "dpo_loss"),
        ("cDPO", "cdpo", cdpo, "cdpo_loss"),
        ("ORPO, summed log-probs", "orpo", orpo, note),
    ]


def grpo_advantages() -> jax.Array:
    """[N] group-normalised advantages; Tunix's eps is 1e-6."""
    return groups.group_normalised_advantages(load("groups").scores, eps=1e-6).reshape(-1)


def group_loss(params: jax.Array, loss: Callable, **options) -> jax.Array:
    """A loss of this library on the groups, before aggregation."""
    now, old = group_answers(params), group_answers(load("weights").old)
    return loss(now.token_logps, old.token_logps, grpo_advantages(), now.mask, **options)


def group_rows() -> list[tuple[str, str, Loss, str]]:
    """GRPO, its aggregations and clips, GSPO-token."""
    weights = load("weights")
    old, reference = group_answers(weights.old), group_answers(weights.reference)
    mask, wide = old.mask, {"clip_eps_low": LOW, "clip_eps_high": HIGH}
    spread = jnp.broadcast_to(grpo_advantages()[:, None], mask.shape)

    def grpo(params, beta):
        logps = (group_answers(params).token_logps, old.token_logps, reference.token_logps)
        clip = {"clip_eps": LOW, "beta": beta}
        return jnp.mean(grouped.grpo_loss(*logps, grpo_advantages(), mask, **clip))

    def token_mean(params):
        return masking.token_mean(group_loss(params, grouped.dapo_loss, **wide), mask).value()

    def dual(params):
        logps = (group_answers(params).token_logps, old.token_logps)
        losses = policy_gradient.dual_clip_loss(*logps, spread, clip_eps=LOW, dual_clip=1.5)
        return masking.sequence_mean_of_token_mean(losses, mask).value()

    def gspo_token(params):
        logps = (group_answers(params).token_logps, old.token_logps)
        losses = answered.gspo_token_loss(*logps, spread, mask, **wide)
        return masking.sequence_mean_of_token_mean(losses, mask).value()

    low_variance = "grpo_loss; Tunix's low_var_kl: its default, k1, has no gradient on average"
    return [
        ("GRPO", "grpo", lambda params: grpo(params, 0.0), "grpo_loss"),
        ("GRPO with KL", "grpo_kl", lambda params: grpo(params, KL), low_variance),
        ("GRPO, token mean", "grpo_token_mean", token_mean, "dapo_loss, token_mean"),
        ("GRPO, dual clip", "grpo_dual_clip", dual, "dual_clip_loss"),
        ("GSPO-token", "gspo_token", gspo_token, "gspo_token_loss"),
    ]


def token_values(params: jax.Array) -> jax.Array:
    """[N, T] values of the states from a [V, 1] table."""
    data = load("groups")
    ids = np.concatenate([data.prompt_ids.repeat(GROUP, axis=0), data.completion_ids], axis=-1)
    return params[ids[:, data.prompt_ids.shape[-1] - 1 : -1], 0]


def gae() -> tuple[jax.Array, jax.Array]:
    """[N, T] raw advantages and returns of the committed groups."""
    data, table = load("groups"), load("weights").reward
    mask = jnp.asarray(data.completion_mask)
    values = jnp.where(mask, token_values(table[:, :1]), 0.0)
    rewards = jnp.where(mask, table[data.completion_ids, 1], 0.0)
    discounts = returns.answer_discounts(mask, gamma=GAMMA)
    last = jnp.zeros(mask.shape[0])
    advantages = returns.gae(rewards, values, discounts, last, gae_lambda=LAMBDA)
    return jnp.where(mask, advantages, 0.0), jnp.where(mask, advantages + values, 0.0)


def ppo_rows() -> list[tuple[str, str, Loss, str]]:
    """PPO's two losses."""
    mask = jnp.asarray(load("groups").completion_mask)
    old = group_answers(load("weights").old)

    def policy(params):
        now = group_answers(params)
        clipped = policy_gradient.asymmetric_clip_loss(
            now.token_logps,
            old.token_logps,
            masking.whiten(gae()[0], mask),
            clip_eps_low=LOW,
            clip_eps_high=HIGH,
        )
        advantages = masking.whiten(gae()[0], mask)
        cap = jnp.where(advantages < 0, -1.5 * advantages, jnp.inf)  # the dual clip
        bonus = 0.05 * masking.masked_mean(entropy(now.logits), mask)
        return masking.token_mean(jnp.minimum(clipped, cap), mask).value() - bonus

    def values(params):
        zeros = jnp.zeros(mask.shape)
        losses = policy_gradient.clipped_value_loss(
            token_values(params), zeros, gae()[1], clip_eps=0.5
        )
        return masking.token_mean(losses, mask).value()

    return [
        (
            "PPO policy",
            "ppo",
            policy,
            "asymmetric_clip_loss, a dual clip, whiten, entropy",
        ),
        ("PPO value", "values", values, "clipped_value_loss"),
    ]


def estimators() -> list[tuple[str, str, Callable[[], jax.Array], str]]:
    """Advantages and returns."""
    data = load("groups")
    mask = jnp.asarray(data.completion_mask)
    return [
        ("GAE, whitened", "gae_whitened", lambda: masking.whiten(gae()[0], mask), "gae, whiten"),
        ("GAE returns", "returns", lambda: gae()[1], "gae plus values"),
        ("GRPO advantages", "grpo_advantages", grpo_advantages, NORMALISED),
        (
            "RLOO advantages",
            "rloo_advantages",
            lambda: groups.leave_one_out_advantages(data.scores).reshape(-1),
            "leave_one_out_advantages",
        ),
    ]


def objectives(python: str) -> list[Objective]:
    """All rows of Tunix."""
    weights = load("weights")
    trained = [(weights.policy, row) for row in pair_rows() + group_rows() + ppo_rows()[:1]]
    trained += [(weights.reward[:, :1], row) for row in ppo_rows()[1:]]
    rows = [
        Objective(name, "Tunix", functools.partial(peer_run, python, key), ours, params, note)
        for params, (name, key, ours, note) in trained
    ]
    return rows + [
        Objective(name, "Tunix", functools.partial(peer_run, python, key), ours, note=note)
        for name, key, ours, note in estimators()
    ]
