"""SFT, reward model and DPO of one fold. Everything is compiled once, for all folds."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.preferences.config import Config, Fit
from experiments.preferences.data import PairRows, even_batches, take
from rlhf_jax.algos import preference, reward_model, sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.data.loader import batches, steps_in
from rlhf_jax.data.padding import PaddedRows
from rlhf_jax.data.tokenizer import EOS_ID, PAD_ID
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.models import make_reward_model, make_transformer
from rlhf_jax.policies.language import (
    language_decoder,
    language_policy,
    language_reward,
    language_trajectory,
)
from rlhf_jax.sampling.decode import Rollout, SamplingConfig, sample
from rlhf_jax.sharding import compile_update
from rlhf_jax.training import Run, Stage, UserError, run_stage, train_stage
from rlhf_jax.types import Params, Policy, PreferenceBatch, PyTree, Trajectory


class Fitter(NamedTuple):
    """One compiled update, its optimizer, and how many there are."""

    update: Callable
    optimizer: optax.GradientTransformation
    steps: int


class Tools(NamedTuple):
    """Compiled functions of the parameters, and what makes the first parameters.

    logps: `(params, prompts, answers) -> [B]` nats. margins: `(params, PairRows) -> [B]` score of
    the chosen answer minus that of the rejected one. answer: `(params, prompts, key) -> Rollout`.
    """

    init_policy: Callable[..., Params]
    init_reward: Callable[..., Params]
    sft: Fitter
    reward: Fitter
    dpo: Fitter
    logps: Callable[..., jax.Array]
    margins: Callable[..., jax.Array]
    answer: Callable[..., Rollout]


class Models(NamedTuple):
    """Parameters of one fold: before training, after each stage."""

    untrained: Params
    sft: Params
    reward: Params
    dpo: Params


def make_tools(config: Config, rows: int) -> Tools:
    """Everything that is compiled, for training splits of up to `rows` pairs.

    Raises:
      UserError: a fit of fewer than two updates, the first of which has rate 0.
    """
    model = make_transformer(config.transformer())
    scorer = make_reward_model(config.transformer())
    policy, reward, decoder = (
        language_policy(model),
        language_reward(scorer),
        language_decoder(model),
    )
    sampling = SamplingConfig(
        max_new_tokens=config.answer_tokens, stop_ids=(EOS_ID,), pad_id=PAD_ID
    )

    def fitter(name: str, make_update: Callable, as_batch: Callable) -> Fitter:
        fit: Fit = getattr(config, name)
        steps = steps_in(fit.epochs, rows=rows, batch_size=config.batch)
        if steps < 2:
            raise UserError(
                f"{name}.epochs = {fit.epochs} of {rows} pairs is one update of {config.batch}, at "
                f"rate 0: raise {name}.epochs or lower batch"
            )
        optimizer = make_optimizer(fit, steps)
        update = make_update(optimizer=optimizer)
        compiled = compile_update(lambda state, rows: update(state, as_batch(rows)))
        return Fitter(compiled, optimizer, steps)

    def margins(params, rows: PairRows):
        batch = pair_batch(rows)
        return reward.scores(params, batch.chosen) - reward.scores(params, batch.rejected)

    def answer(params, prompts: PaddedRows, key):
        numbers = jnp.arange(prompts.ids.shape[0])
        return sample(
            decoder,
            params,
            *map(jnp.asarray, prompts),
            key,
            config=sampling,
            prompt_indices=numbers,
            sample_indices=jnp.zeros_like(numbers),
        )

    dpo = partial(preference.make_update, policy, loss=partial(dpo_loss, beta=config.beta))
    return Tools(
        init_policy=jax.jit(model.init),
        init_reward=jax.jit(scorer.init),
        sft=fitter("sft", partial(sft.make_update, policy), chosen_answers),
        reward=fitter("reward", partial(reward_model.make_update, reward), pair_batch),
        dpo=fitter("dpo", dpo, lambda rows: pair_batch(*rows)),
        logps=jax.jit(partial(answer_logps, policy)),
        margins=jax.jit(margins),
        answer=jax.jit(answer),
    )


def make_optimizer(fit: Fit, steps: int) -> optax.GradientTransformation:
    """AdamW under a warm-up and a cosine, gradients clipped to global norm 1."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, fit.learning_rate, warmup_steps=max(steps // 10, 1), decay_steps=max(steps, 2)
    )
    adamw = optax.adamw(schedule, b2=0.99, weight_decay=fit.weight_decay)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def trajectory(prompts: PaddedRows, answers: PaddedRows) -> Trajectory:
    """Answers to prompts as a language policy reads them."""
    return language_trajectory(*map(jnp.asarray, (*prompts, *answers)))


def chosen_answers(rows: PairRows) -> Trajectory:
    """What SFT imitates."""
    return trajectory(rows.prompts, rows.chosen)


def pair_batch(rows: PairRows, ref_logps: tuple | None = None) -> PreferenceBatch:
    """Pairs as trajectories, with the reference's log-probs (chosen, rejected) if given."""
    chosen, rejected = ref_logps or (None, None)
    return PreferenceBatch(
        chosen=trajectory(rows.prompts, rows.chosen),
        rejected=trajectory(rows.prompts, rows.rejected),
        ref_chosen_logps=chosen,
        ref_rejected_logps=rejected,
    )


def answer_logps(
    policy: Policy, params: Params, prompts: PaddedRows, answers: PaddedRows
) -> jax.Array:
    """[B] summed log-probs of answers."""
    return preference.trajectory_logps(policy, params, trajectory(prompts, answers))


def fit_models(
    job: Run, fold: str, tools: Tools, rows: PairRows, config: Config, key: jax.Array
) -> Models:
    """The three fits of a fold, each a stage of the run.

    The reward model and DPO both start from the SFT parameters, which are DPO's reference too.
    """
    policy_key, head_key, *order_keys = jax.random.split(key, 5)
    order_seeds = [int(jax.random.bits(order_key)) for order_key in order_keys]

    def fit(name: str, fitter: Fitter, params: Params, data: PyTree, seed: int) -> Params:
        order = batches(len(rows.prompts.ids), batch_size=config.batch, seed=seed)

        def step(state, i):
            return fitter.update(state, take(data, order[i]))

        def work(stage: Stage):
            start = init_state(jax.tree.map(jnp.copy, params), fitter.optimizer)  # it is donated
            return train_stage(stage, step, start, steps=fitter.steps).params, {}

        done = run_stage(job, f"{fold}-{name}", work)
        return jax.tree.map(jnp.asarray, done.arrays)

    untrained = tools.init_policy(policy_key)
    tuned = fit("sft", tools.sft, untrained, rows, order_seeds[0])
    start = {**tools.init_reward(head_key), "trunk": tuned["trunk"]}
    reward = fit("reward", tools.reward, start, rows, order_seeds[1])
    references = tuple(
        in_batches(partial(tools.logps, tuned), (rows.prompts, answers), size=config.batch)
        for answers in (rows.chosen, rows.rejected)
    )
    dpo = fit("dpo", tools.dpo, tuned, (rows, references), order_seeds[2])
    return Models(untrained, tuned, reward, dpo)


def in_batches(function: Callable[..., jax.Array], parts: tuple, *, size: int) -> np.ndarray:
    """[N] `function(*parts)` over rows N, in compiled batches of one size."""
    total = len(jax.tree.leaves(parts)[0])
    out = [np.asarray(function(*take(parts, index))) for index in even_batches(total, size)]
    return np.concatenate(out)[:total]
