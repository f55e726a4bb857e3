"""`rlhf plan`: what a training step takes on chips that are not here, before they are rented."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from jax.sharding import Mesh

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.arguments import nearest
from rlhf_jax.cli.losses import PAIR_LOSSES, named_loss
from rlhf_jax.cli.memory import show
from rlhf_jax.cli.options import Dtype
from rlhf_jax.cli.plan_page import ranking_table, write_plans
from rlhf_jax.hf import read_config
from rlhf_jax.models import TransformerConfig
from rlhf_jax.models.config import Remat
from rlhf_jax.plan import (
    PRESETS,
    Pairs,
    PodPlan,
    Topology,
    Workload,
    make_plan,
    plan_json,
    read_topology,
    search,
    sweep,
    topology_devices,
)
from rlhf_jax.reports.claims import print_table, write_text
from rlhf_jax.sharding import make_mesh, parse_mesh
from rlhf_jax.training import UserError, reading_input

METHODS = ("sft", "reward", "ppo", "grpo", "sample")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Whether a step fits chips that are not here, and how fast it can be: compiled, not run.

    The real update is compiled for the topology, a TPU slice with its own compiler (extra "tpu"),
    GPUs as simulated devices of the CPU's compiler. No weight is ever allocated.
    """

    method: Annotated[str, tyro.conf.Positional]
    """sft, reward, dpo or another loss of pairs, ppo, grpo, or sample: prefill and decoding."""
    model: str
    """A published model such as llama-8b, or a Hugging Face folder; only config.json is read."""
    topology: str
    """A TPU slice such as v5e:16x16, or a number of GPUs such as h100:64."""
    mesh: str | None = None
    """Devices by axis, e.g. fsdp=64,model=8 of data, fsdp, sequence, model; None: all to fsdp."""
    batch: int = 64
    """Rows of a step on all chips: answers, pairs or prompts."""
    length: int = 4096
    """Tokens of a row, prompt and answer."""
    answer_length: int | None = None
    """Tokens of the answer among them; by default half of them."""
    samples: int = 8
    """Answers to each prompt, for grpo and sample."""
    micro_batches: int = 1
    """Parts of each update: the same step in less memory."""
    remat: Remat = "nothing"
    """What the forward pass of a layer keeps for the backward pass; "dots" are matrix products."""
    dtype: Dtype = "bfloat16"
    """Of matrix products."""
    param_dtype: Dtype = "float32"
    """Of parameters and the optimizer's moments."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """Settings of a loss of pairs, as names and numbers."""
    search: bool = False
    """Try meshes, remat and micro-batches, and rank them."""
    tries: int = 8
    """Plans that --search compiles, at most; each takes a minute or more."""
    sweep: bool = False
    """Also plan for 8, 16, ... chips of this kind, up to the topology's number."""
    out: Path | None = None
    """Folder for plan.json and plan.html."""

    def __post_init__(self) -> None:
        names = ("batch", "length", "samples", "micro_batches", "tries")
        check_fields(self, "[1, inf)", *names)
        if self.answer_length is not None:
            check_fields(self, f"[1, {self.length - 1}]", "answer_length")


def plan(command: str, options: PlanOptions) -> None:
    """Compiles and prints."""
    topology = read_topology(options.topology)
    topology_devices(topology)  # before JAX has counted its devices
    job = make_job(options)
    if options.search:
        plans = search(job, topology, tries=options.tries, say=print)
        print_table(ranking_table(plans))
        found = plans[0]
    else:
        found = planned(job, topology, open_plan_mesh(options, topology, job.config))
        plans = [found]
    show(found, options.model)
    swept = sweep(job, topology, say=print) if options.sweep else []
    if options.out is not None:
        save(options, plans, swept)


def planned(job: Workload, topology: Topology, mesh: Mesh) -> PodPlan:
    """`make_plan`, with what the mesh does not divide as the user's error."""
    try:
        return make_plan(job, topology, mesh)
    except ValueError as error:
        raise UserError(f"--mesh: {error}") from error


def make_job(options: PlanOptions) -> Workload:
    """The method, on a model of these sizes.

    Raises:
      UserError: no such method, model or loss; or a batch without equal parts.
    """
    answer = options.answer_length or max(options.length // 2, 1)
    name, pairs = options.method, None
    if name not in METHODS:
        if name.replace("-", "_") not in PAIR_LOSSES:
            known = [*METHODS, *PAIR_LOSSES]
            raise UserError(f"rlhf plan has no method {name!r}{nearest(name, known)}")
        name, pairs = "pairs", Pairs(*named_loss(name, options.loss_options))
    samples = options.samples if name in ("grpo", "sample") else 1
    if options.batch * samples % options.micro_batches:
        raise UserError(
            f"--batch {options.batch} must be a multiple of --micro-batches {options.micro_batches}"
        )
    return Workload(
        method=name,
        config=model_config(options),
        batch=options.batch,
        prompt_length=options.length - answer,
        answer_length=answer,
        samples=samples,
        parts=options.micro_batches,
        pairs=pairs,
    )


def model_config(options: PlanOptions) -> TransformerConfig:
    """A preset, or that of a folder, in the precision of the options."""
    if options.model in PRESETS:
        config = PRESETS[options.model]
    elif Path(options.model).is_dir():
        with reading_input():
            config = read_config(options.model)
    else:
        raise UserError(
            f"--model {options.model} is no folder and no published model"
            f"{nearest(options.model, list(PRESETS))}"
        )
    return replace(
        config, dtype=options.dtype, param_dtype=options.param_dtype, remat=options.remat
    )


def open_plan_mesh(options: PlanOptions, topology: Topology, config: TransformerConfig) -> Mesh:
    """The mesh of --mesh on the topology's devices."""
    devices = topology_devices(topology)
    try:
        ways = {} if options.mesh is None else parse_mesh(options.mesh)
        return make_mesh(**ways, devices=devices)
    except ValueError as error:
        raise UserError(f"--mesh: {error}") from error


def save(options: PlanOptions, plans: Sequence[PodPlan], swept: Sequence[PodPlan]) -> None:
    """Writes OUT/plan.json and OUT/plan.html."""
    assert options.out is not None
    options.out.mkdir(parents=True, exist_ok=True)
    found: Mapping[str, Any] = {
        "model": options.model,
        "plans": [plan_json(one) for one in plans],
        "sweep": [plan_json(one) for one in swept],
    }
    write_text(options.out / "plan.json", json.dumps(found, indent=1))
    write_plans(options.out / "plan.html", options.model, plans, swept)
    print(f"report: {options.out / 'plan.html'}")
