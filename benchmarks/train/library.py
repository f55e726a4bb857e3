"""This library's side: the compiled steps of its recipes, and `online` as it is."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.train.child import Job, Turn, Work, best_rate, serve
from benchmarks.train.sizes import BETA, DECAY, KL, ONLINE_RATE, RATE
from rlhf_jax.algos import preference, sft
from rlhf_jax.algos.online import AnswerBatch
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.hf import load_model
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.kl import k3
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    OnlineMethod,
    Penalty,
    grpo,
    make_lab,
    on_trunk,
    online,
    ppo,
    prompt_rows,
    stage_key,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.lab import start_training
from rlhf_jax.recipes.online_method import make_step
from rlhf_jax.training import open_run, run_stage
from rlhf_jax.types import Params, PreferenceBatch, Trajectory

ADAMW = optax.adamw(RATE, weight_decay=DECAY)
ONLINE = optax.adamw(ONLINE_RATE, weight_decay=DECAY)


def open_work(work: Work, *, prompt: int, answer: int) -> tuple[LanguageLab, Params]:
    """The model, in a lab of these lengths."""
    base = load_model(work.folder)
    words = [f"w{i}" for i in range(4, work.sizes.vocab)]
    vocabulary = standard_vocabulary(train_word_tokenizer(words))
    lab = make_lab(base.config, vocabulary, prompt_length=prompt, answer_length=answer)
    return lab, base.params


def rows(prompts: np.ndarray, answers: np.ndarray) -> Trajectory:
    """Full rows of tokens, all of the answers counted."""
    real = [np.ones(x.shape, bool) for x in (prompts, answers)]
    return language_trajectory(prompts, real[0], answers, real[1])


def repeat(step: Callable[..., Any], state: Any, turn: Turn, *given: Any) -> None:
    """The same batch again and again."""
    while True:
        state, metrics = step(state, *given)
        turn(loss=float(metrics["loss"].value()))


def dpo(work: Work, turn: Turn) -> None:
    """Pairs with their reference log-probs."""
    lab, params = open_work(work, prompt=work.sizes.prompt, answer=work.sizes.answer)
    sides = [rows(work.arrays["prompt"], work.arrays[name]) for name in ("chosen", "rejected")]
    known = [sequence_logps(lab.token_logps(params, side), side.mask) for side in sides]
    (chosen, rejected), (ref_chosen, ref_rejected) = sides, known
    batch = PreferenceBatch(chosen, rejected, ref_chosen, ref_rejected)
    update = preference.make_update(lab.policy, ADAMW, partial(dpo_loss, beta=BETA))
    state, step = start_training(lab, params, lab.axes["policy"], ADAMW, update)
    repeat(step, state, turn, batch)


def fine_tuning(work: Work, turn: Turn) -> None:
    """The chosen and the rejected answers, all of them learned."""
    lab, params = open_work(work, prompt=work.sizes.prompt, answer=work.sizes.answer)
    answers = np.concatenate([work.arrays["chosen"], work.arrays["rejected"]])
    batch = rows(np.tile(work.arrays["prompt"], (2, 1)), answers)
    state, step = start_training(
        lab, params, lab.axes["policy"], ADAMW, sft.make_update(lab.policy, ADAMW)
    )
    repeat(step, state, turn, batch)


def group_iterations(work: Work, turn: Turn) -> None:
    """Three steps on given answers, then whole iterations of GRPO."""
    lengths = {"prompt": work.sizes.online_prompt, "answer": work.sizes.online_answer}
    lab, params = open_work(work, **lengths)
    method = grpo(lab, samples=work.sizes.samples, kl=Penalty(KL, k3))
    answers = rows(work.arrays["group_prompt"], work.arrays["group_answer"])
    known = lab.token_logps(params, answers)
    columns = {"old_token_logps": known, "ref_token_logps": known}
    columns |= {"advantages": jnp.asarray(work.arrays["advantages"])}
    columns["betas"] = jnp.full_like(columns["advantages"], KL)
    batch = AnswerBatch(answers, columns, jnp.ones(len(known)))
    update = make_step(lab, method, ONLINE)
    state, step = start_training(lab, params, method.axes, ONLINE, update)
    for _ in range(3):
        state, metrics = step(state, (batch, ()), jax.random.key(0))
        turn(loss=float(metrics["loss"].value()))
    del state, step
    iterate(work, lab, params, method, turn)


def critic_iterations(work: Work, turn: Turn) -> None:
    """Whole iterations of PPO with a critic of the policy's size."""
    lengths = {"prompt": work.sizes.online_prompt, "answer": work.sizes.online_answer}
    lab, params = open_work(work, **lengths)
    critic = on_trunk(lab, params, stage_key(lab, "critic"))
    method = ppo(lab, PPOConfig(), critic, epochs=1, minibatches=1)
    method = method._replace(samples=work.sizes.samples)
    iterate(work, lab, params, method, turn)


def iterate(work: Work, lab: LanguageLab, params: Params, method: OnlineMethod, turn: Turn) -> None:
    """`online` on random prompts, with a reward of texts; no answer stops early."""
    rng = np.random.default_rng(1)
    numbers = rng.integers(4, work.sizes.vocab, (4 * work.sizes.prompts, work.sizes.online_prompt))
    prompts = [" ".join(f"w{i}" for i in row) for row in numbers]
    task = text_task(prompts, even_words, objective="even", heldout=work.sizes.prompts)
    sampling = replace(lab.sampling, stop_ids=())

    def work_of(stage: Any) -> tuple[Params, dict[str, Any]]:
        clock = stage.run.clock

        def measure(policy: Params, step: int) -> dict[str, Any]:
            jax.block_until_ready(policy)
            sampled = clock.parts.get("sample", 0.0)
            turn(sample=sampled)
            return {}

        fit = Fit(ONLINE, steps=10_000, save_every=0, measure=measure)
        batches = prompt_rows(task, batch_size=work.sizes.prompts, seed=0)
        given = (stage, lab, task, method, task_reward(lab, task), params, batches, fit)
        return online(*given, key=stage_key(lab, "train"), sampling=sampling), {}

    with TemporaryDirectory() as folder, open_run(Path(folder), slug="train", config={}) as run:
        run_stage(run, "train", work_of)


def even_words(prompts: Sequence[Any], answers: Sequence[str], /) -> dict[str, list[float]]:
    """How many words of each answer have an even number."""
    ends = tuple(f"{i}" for i in range(0, 10, 2))
    return {"even": [float(sum(w.endswith(ends) for w in text.split())) for text in answers]}


def roof(size: int) -> float:
    """Of XLA."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    return best_rate(lambda: product(x, x).block_until_ready(), size)


JOBS: dict[str, Job] = {
    "dpo": dpo,
    "sft": fine_tuning,
    "grpo": group_iterations,
    "ppo": critic_iterations,
}

if __name__ == "__main__":
    # tensorboardX imports torch where it can, which is neither this side's time nor its memory.
    sys.modules["torch"] = None  # ty: ignore
    serve(JOBS, roof)
