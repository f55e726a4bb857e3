"""A training step on chips that are not here: compiled with their compiler, and read.

    topology = read_topology("v5e:16x16")
    mesh = make_mesh(fsdp=64, model=4, devices=topology_devices(topology))
    plan = make_plan(Workload("sft", PRESETS["llama-8b"], 256, 2048, 2048), topology, mesh)
    print(verdict(plan), *knobs(plan), sep="\\n")

`programs` lowers what the recipes run, from shapes; `compiler` compiles it; `hlo`, `cost` and
`groups` read the text: products, HBM traffic and collectives, loops as often as they run;
`roofline` holds them against the peaks of `chips`, and `flops` against a count by hand.
"""

from rlhf_jax.plan.advice import knobs as knobs
from rlhf_jax.plan.advice import verdict as verdict
from rlhf_jax.plan.chips import Topology as Topology
from rlhf_jax.plan.chips import local_topology as local_topology
from rlhf_jax.plan.chips import read_topology as read_topology
from rlhf_jax.plan.compiler import topology_devices as topology_devices
from rlhf_jax.plan.estimate import PodPlan as PodPlan
from rlhf_jax.plan.estimate import make_plan as make_plan
from rlhf_jax.plan.estimate import plan_json as plan_json
from rlhf_jax.plan.presets import PRESETS as PRESETS
from rlhf_jax.plan.programs import Pairs as Pairs
from rlhf_jax.plan.programs import Workload as Workload
from rlhf_jax.plan.search import search as search
from rlhf_jax.plan.search import sweep as sweep
