"""When a command runs out of memory: what its step needs, by part, and what to change."""

from typing import Any

import jax

from rlhf_jax.cli.arguments import flat
from rlhf_jax.cli.losses import PAIR_LOSSES, named_loss
from rlhf_jax.cli.plan_page import plan_table
from rlhf_jax.cli.session import open_mesh
from rlhf_jax.hf import read_config
from rlhf_jax.plan import (
    Pairs,
    PodPlan,
    Topology,
    Workload,
    knobs,
    local_topology,
    make_plan,
    verdict,
)
from rlhf_jax.reports.claims import print_table
from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import UserError

KNOBS = (
    "out of memory: lower --batch-size, --prompt-length or --answer-length, raise --micro-batches, "
    "or split the model over more devices with --mesh"
)


def out_of_memory(command: str, options: Any) -> UserError:
    """The error for the user; prints the plan of the step on these devices, where there is one."""
    topology = local_topology(jax.devices())
    job = None if topology is None else workload(command, options)
    if topology is not None and job is not None:
        show(local_plan(job, topology, options), flat(options)["model"])
    return UserError(KNOBS)


def show(plan: PodPlan, model: str) -> None:
    """Table, verdict and options to change."""
    print_table(plan_table(plan, model))
    print(verdict(plan), *(f"- {line}" for line in knobs(plan)), sep="\n")


def local_plan(job: Workload, topology: Topology, options: Any) -> PodPlan:
    """The plan on the mesh of the command."""
    model = getattr(options, "job", options).model
    mesh = open_mesh(model, job.config) or make_mesh(devices=jax.devices()[:1])
    return make_plan(job, topology, mesh)


def workload(command: str, options: Any) -> Workload | None:
    """The step of a training command; None if it is not one that `rlhf plan` knows.

    Rows are as long as the command allows, which those of its data may not be.
    """
    given = flat(options)
    method, pairs = command, None
    if given.get("lora_rank"):
        return None
    if command.replace("-", "_") in PAIR_LOSSES or command == "preference":
        method, pairs = "pairs", Pairs(*named_loss(given["loss"], given["loss_options"]))
    elif command not in ("sft", "reward", "ppo", "grpo"):
        return None
    precision = {"dtype": given["dtype"], "param_dtype": given["param_dtype"] or given["dtype"]}
    return Workload(
        method=method,
        config=read_config(given["model"], **precision),
        batch=given["batch_size"],
        prompt_length=given["prompt_length"],
        answer_length=given["answer_length"],
        samples=given["samples"] if method == "grpo" else 1,
        parts=given["micro_batches"],
        pairs=pairs,
    )
