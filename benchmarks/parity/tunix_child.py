"""The half of the Tunix comparison that runs in Tunix's own environment.

`python -m benchmarks.parity.tunix_child OUT.npz`: Tunix's DPO trainer, its policy and value losses
and its advantage estimators on the committed batches; what they computed goes to the file.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.rl import algo_core, common
from tunix.sft.dpo.dpo_trainer import DPOTrainer, DPOTrainingConfig, TrainingInput

from benchmarks.parity.batches import load
from benchmarks.parity.compare import STEPS, Run, step_size
from benchmarks.parity.draw import EOS, GROUP, PAD

TOKENS = {"pad_id": PAD, "eos_id": EOS}
PAIRED = {
    "dpo": {"algorithm": "dpo", "beta": 0.8},
    "cdpo": {"algorithm": "dpo", "beta": 0.8, "label_smoothing": 0.1},
    "orpo": {"algorithm": "orpo", "lambda_orpo": 0.8},
}
GROUPED = {
    "grpo": {},
    "grpo_kl": {"beta": 0.1},
    "grpo_token_mean": {"loss_agg_mode": "token-mean", "epsilon_high": 0.28},
    "grpo_dual_clip": {"epsilon_c": 1.5},
    "gspo_token": {"loss_algo": "gspo-token", "epsilon_high": 0.28},
}
GRPO: dict[str, object] = {"beta": 0.0, "epsilon": 0.2, "epsilon_high": 0.2, "loss_algo": "grpo"}
GRPO |= {"loss_agg_mode": "sequence-mean-token-mean", "kl_loss_mode": "low_var_kl"}
GRPO |= {"kl_clamp_value": None, "temperature": 1.0}
PPO = {"epsilon_low": 0.2, "epsilon_high": 0.28, "entropy_coef": 0.05, "epsilon_c": 1.5}


class Table(nnx.Module):
    """A language model that is one table: the output after token s is row s."""

    def __init__(self, table: np.ndarray):
        self.table = nnx.Param(jnp.asarray(table))

    def __call__(self, tokens, **kwargs):
        return self.table[...][tokens], None


def descend(loss: Callable[[Table], jax.Array], table: np.ndarray) -> Run:
    """Loss, gradient and five steps of `optax.sgd` through Flax's optimizer."""
    model, optimizer, rate = Table(table), None, 0.0
    values, gradients, path = [], [], []
    for _ in range(STEPS):
        value, gradient = nnx.value_and_grad(loss)(model)
        values.append(np.asarray(value))
        gradients.append(np.asarray(jax.tree.leaves(gradient)[0]))
        if optimizer is None:
            rate = step_size(gradients[0])
            optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
        optimizer.update(model, gradient)
        path.append(np.asarray(model.table[...]))
    return Run(np.stack(values), gradients[0], np.stack(path), rate)


def trainer(options: dict, rate: float) -> DPOTrainer:
    """Tunix's DPO trainer with plain SGD; ORPO has no reference."""
    weights = load("weights")
    config = DPOTrainingConfig(eval_every_n_steps=100, metrics_logging_options=None, **options)
    reference = Table(weights.reference) if options["algorithm"] == "dpo" else None
    return DPOTrainer(Table(weights.policy), reference, optax.sgd(rate), config)


def examples(owner: DPOTrainer):
    """The committed pairs through the trainer's own preparation."""
    pairs, sides = load("pairs"), ("prompt", "chosen", "rejected")
    names = [f"{side}_{kind}" for side in sides for kind in ("ids", "mask")]
    return owner._prepare_inputs(TrainingInput(**{name: getattr(pairs, name) for name in names}))


def run_pairs(options: dict) -> Run:
    """The trainer's loss function, and five of its own training steps."""
    first = trainer(options, 0.0)
    inputs = first.gen_model_input_fn(examples(first))
    gradient = nnx.grad(first.loss_fn, has_aux=True)(first.model, **inputs)[0]
    gradient = np.asarray(jax.tree.leaves(gradient)[0])
    rate = step_size(gradient)
    owner = trainer(options, rate)
    batch, values, path = examples(owner), [], []
    for _ in range(STEPS):
        values.append(np.asarray(owner._train_step(owner.model, owner.optimizer, batch)[0]))
        path.append(np.asarray(owner.model.table[...]))
    return Run(np.stack(values), gradient, np.stack(path), rate)


def group_logps(table: np.ndarray) -> jax.Array:
    """[N, T] log-probs of the committed answers, by Tunix."""
    groups = load("groups")
    prompts, answers = groups.prompt_ids.repeat(GROUP, axis=0), groups.completion_ids
    return common.compute_per_token_logps(*nnx.split(Table(table)), prompts, answers, **TOKENS)


def group_batch(advantages: jax.Array | np.ndarray, **fields) -> SimpleNamespace:
    """What Tunix's losses read from a training example."""
    groups, weights = load("groups"), load("weights")
    return SimpleNamespace(
        prompt_ids=jnp.asarray(groups.prompt_ids.repeat(GROUP, axis=0)),
        completion_ids=jnp.asarray(groups.completion_ids),
        completion_mask=jnp.asarray(groups.completion_mask, jnp.int32),
        advantages=jnp.asarray(advantages),
        old_per_token_logps=group_logps(weights.old),
        ref_per_token_logps=group_logps(weights.reference),
        **fields,
    )


def grpo_advantages() -> np.ndarray:
    """Tunix's group-normalised advantages, [N]."""
    return algo_core.compute_advantages(load("groups").scores.reshape(-1), GROUP)


def run_groups(options: dict) -> Run:
    """Tunix's GRPO loss."""
    config, batch = SimpleNamespace(**(GRPO | options)), group_batch(grpo_advantages())
    loss = lambda model: algo_core.grpo_loss_fn(model, batch, config, **TOKENS)[0]  # noqa: E731
    return descend(loss, load("weights").policy)


def value_table() -> np.ndarray:
    """[V, 1] values of the states: the first column of the reward table."""
    return load("weights").reward[:, :1]


def token_rewards() -> np.ndarray:
    """[N, T] rewards: whatever the reward table's second column says of each token."""
    groups = load("groups")
    return load("weights").reward[groups.completion_ids, 1] * groups.completion_mask


def gae() -> tuple[jax.Array, jax.Array]:
    """Tunix's advantages, whitened in the same function, and returns, [N, T] each."""
    groups = load("groups")
    prompts = groups.prompt_ids.repeat(GROUP, axis=0)
    values = common.compute_score(Table(value_table()), prompts, groups.completion_ids, **TOKENS)
    values = values[:, prompts.shape[1] - 1 : -1] * groups.completion_mask
    mask = groups.completion_mask.astype(np.int32)
    return algo_core.compute_gae_advantages(token_rewards(), values, mask, 0.9, 0.8)


def run_ppo() -> Run:
    """Tunix's PPO policy loss: asymmetric and dual clip, entropy bonus."""
    mask = load("groups").completion_mask
    batch, config = group_batch(jnp.where(mask, gae()[0], 0.0)), SimpleNamespace(**PPO)
    loss = lambda model: algo_core.ppo_policy_loss_fn(model, batch, config, **TOKENS)[0]  # noqa: E731
    return descend(loss, load("weights").policy)


def run_values() -> Run:
    """Tunix's clipped value loss; all old values are 0, so the clip is on where |V| > 0.5."""
    returns = gae()[1]
    batch = group_batch(returns, old_values=jnp.zeros_like(returns), returns=returns)
    loss = lambda model: algo_core.ppo_value_loss_fn(model, batch, 0.5, **TOKENS)[0]  # noqa: E731
    return descend(loss, value_table())


def main() -> None:
    """Run all objectives and write them under `objective/field`."""
    runs = {name: run_pairs(options) for name, options in PAIRED.items()}
    runs |= {name: run_groups(options) for name, options in GROUPED.items()}
    mask, scores = load("groups").completion_mask, load("groups").scores.reshape(-1)
    advantages, returns = gae()
    runs |= {"ppo": run_ppo(), "values": run_values()}
    runs["gae_whitened"] = Run(np.where(mask, advantages, 0.0))
    runs["returns"] = Run(np.where(mask, returns, 0.0))
    runs["grpo_advantages"] = Run(grpo_advantages())
    runs["rloo_advantages"] = Run(np.asarray(algo_core.compute_rloo_advantages(scores, GROUP)))
    fields = {name: run._asdict() for name, run in runs.items()}
    arrays = {f"{name}/{field}": x for name, run in fields.items() for field, x in run.items()}
    names = ("google-tunix", "flax", "jax", "optax")
    arrays["versions"] = np.array([f"{name} {version(name)}" for name in names])
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
