"""What to change: options that make a plan fit, or that move what limits its speed."""

import math

from rlhf_jax.plan.chips import GIB
from rlhf_jax.plan.estimate import PodPlan, ProgramPlan

MOVABLE = 0.5  # GiB; smaller parts are not worth an option


def verdict(plan: PodPlan) -> str:
    """Fits or not, by how much, in which program."""
    one, hbm = plan.largest, plan.topology.chip.hbm
    used = f"{one.name} takes {one.memory / GIB:.1f} of {hbm / GIB:.1f} GiB a chip"
    if plan.fits:
        return f"fits: {used}, {plan.spare / GIB:.1f} to spare"
    return f"does not fit: {used}, {-plan.spare / GIB:.1f} too many"


def knobs(plan: PodPlan) -> list[str]:
    """Options to try, the strongest first."""
    return _smaller(plan) if not plan.fits else _faster(plan)


def _smaller(plan: PodPlan) -> list[str]:
    one, found = plan.largest, []
    temporaries = one.parts.get("temporaries", 0.0) / GIB
    if temporaries > MOVABLE and one.name == "step":
        found += _less_temporary(plan, temporaries)
    elif temporaries > MOVABLE:
        found.append(
            f"a smaller batch: {temporaries:.1f} GiB of temporaries in {one.name} grow with it"
        )
    resident = sum(size for name, size in one.parts.items() if name != "temporaries")
    if plan.ways.get("data", 1) > 1:
        share = 1 - 1 / plan.ways["data"]
        found.append(
            f"--mesh with data's {plan.ways['data']} ways on fsdp: {share * resident / GIB:.1f} GiB"
            " less of parameters, optimizer and models beside them"
        )
    if plan.job.config.param_dtype == "float32" and resident / GIB > MOVABLE:
        found.append(
            f"--param-dtype bfloat16: {resident / 2 / GIB:.1f} GiB less, at less precision"
        )
    if resident > plan.topology.chip.hbm / 2:
        chips = plan.topology.count * resident / (plan.topology.chip.hbm / 2)
        ways = 2 ** math.ceil(math.log2(chips))
        found.append(f"more chips: what stays in memory fills half of the HBM of {ways}")
    return found


def _less_temporary(plan: PodPlan, temporaries: float | int) -> list[str]:
    found = []
    if plan.job.config.remat != "nothing":
        found.append("--remat nothing: keeps one residual per layer and computes the rest again")
    rows = plan.job.batch * plan.job.samples
    share = math.prod(plan.ways.get(name, 1) for name in ("data", "fsdp"))
    parts = 2 * plan.job.parts
    if rows % (parts * share) == 0:
        found.append(
            f"--micro-batches {parts}: up to {temporaries / 2:.1f} GiB less, the same step"
        )
    elif plan.ways.get("sequence", 1) == 1:
        found.append("--mesh with a sequence axis: a chip holds a part of every row")
    return found


def _faster(plan: PodPlan) -> list[str]:
    one = max(plan.programs, key=lambda each: each.bound.seconds)
    lead = f"{one.name} is limited by {_words(one)}"
    extra = one.flops * plan.topology.count / one.useful - 1 if one.useful else 0.0
    if one.bound.limit == "compute":
        return [f"{lead}; {extra:.0%} of its products are beyond what the method needs"]
    if one.bound.limit == "HBM":
        return [f"{lead}; more rows at once read the same parameters"]
    return [f"{lead}; more rows at once, or fewer ways of that axis, send less for each token"]


def _words(one: ProgramPlan) -> str:
    """The limit, and of the network the collective that takes longest."""
    if one.bound.limit != "network" or not one.network:
        return one.bound.limit
    link = max(one.network, key=lambda link: one.network[link].seconds)
    return f"network, most of it {link.kind} over {link.axes}"
