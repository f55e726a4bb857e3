"""A run of tiny trainings, alone or as one of several processes: `python host_program.py JSON`."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from word_lab import VOCABULARY, WORDS, word_lab

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.losses import dpo_loss
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Fit,
    Penalty,
    answer_rows,
    grpo,
    make_lab,
    on_trunk,
    online,
    pack_records,
    pair_rows,
    ppo,
    preference,
    prompt_rows,
    reference_logps,
    stage_key,
    supervised,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.lab import device_mesh
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Interrupted, UserError, open_run, run_stage, stop_on_signals
from rlhf_jax.training.processes import Join, join_processes, leave

RECORDS = [
    {"prompt": WORDS[i % 4], "answer": " ".join(WORDS[: 1 + i % 3]), "chosen": "red", "rejected": b}
    for i, b in enumerate(["blue", "grey", "green blue"] * 8)
]
STEPS = 4


def reds(prompts, answers):
    """How often each answer says red."""
    return {"red": [float(answer.split().count("red")) for answer in answers]}


TASK = text_task([f"{a} {b}" for a in WORDS for b in WORDS], reds, objective="red", heldout=4)


def transformer_lab(mesh):
    """Two heads of four; every matrix divides over four devices."""
    config = TransformerConfig(
        vocab_size=VOCABULARY.size,
        d_model=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=4,
        d_ff=8,
    )
    return make_lab(config, VOCABULARY, prompt_length=3, answer_length=4, mesh=mesh)


def one_stage(name, lab, measure, stage):
    """The params after a training by this method."""
    fit = Fit(optax.sgd(0.1, momentum=0.9), steps=STEPS, save_every=1, measure=measure)
    if name in ("words", "packed"):
        words = word_lab()._replace(mesh=lab.mesh, axes={"policy": ("embed",)})
        packs = {"packs": pack_records(lab, RECORDS, columns=12)} if name == "packed" else {}
        rows = answer_rows(words, RECORDS, batch_size=4, **packs)
        return supervised(stage, words, rows, jnp.zeros(VOCABULARY.size), fit)
    first = lab.policy.init(jax.random.key(0))
    if name == "sft":
        return supervised(stage, lab, answer_rows(lab, RECORDS, batch_size=4), first, fit)
    if name == "dpo":
        refs = reference_logps(lab, first, RECORDS, batch_size=4)
        sides = {side: refs[side] for side in ("chosen", "rejected")}
        rows = pair_rows(lab, RECORDS, batch_size=4, reference=sides)
        return preference(stage, lab, rows, first, fit, loss=partial(dpo_loss, beta=0.1))
    if name == "ppo":
        critic = on_trunk(lab, first, stage_key(lab, "critic"))
        method = ppo(lab, PPOConfig(beta=0.05), critic, minibatches=2)
    else:
        method = grpo(lab, samples=2, kl=Penalty(0.04, k3))
    numbers = prompt_rows(TASK, batch_size=4, seed=0)
    reward, key = task_reward(lab, TASK), stage_key(lab, name)
    return online(
        *(stage, lab, TASK, method, reward, first, numbers, fit), key=key, completions_every=1
    )


def trained(out, methods, *, mesh, stop=lambda: 0, stage_hook=None):
    """Method -> its params as lists, of a run that goes on where it stopped."""
    lab, found = transformer_lab(mesh), {}
    with open_run(out, slug="hosts", config={"methods": methods}, resume=True, stop=stop) as run:
        for name in methods:

            def measure(params, step, name=name):
                if stage_hook is not None:
                    stage_hook(name, step)
                return {}

            def work(stage, name=name, measure=measure):
                return {"params": one_stage(name, lab, measure, stage)}, {}

            found[name] = run_stage(run, name, work).arrays["params"]
    return jax.tree.map(lambda x: np.asarray(x).tolist(), on_host(found))


def main(options):
    """Prints the params; `kill` is a stage and a step at which this process kills itself."""

    def hook(name, step):
        if options.get("signal") == [name, step]:
            os.kill(os.getpid(), signal.SIGTERM)
        if options.get("kill") == [name, step]:
            os.kill(os.getpid(), signal.SIGKILL)

    where = {name: options[name] for name in ("coordinator", "count", "index")}
    try:
        with (
            join_processes(Join(**where, start_timeout=120, heartbeat=10)),
            stop_on_signals() as stop,
        ):
            found = trained(
                Path(options["out"]),
                options["methods"],
                mesh=device_mesh(),
                stop=stop,
                stage_hook=hook,
            )
        print(json.dumps(found))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        leave(error.exit_code)
    except Interrupted as stopped:
        print(f"stopped {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signum)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
