"""Other meshes, remat, micro-batches and numbers of chips."""

import pytest
from test_plan_programs import CONFIG

from rlhf_jax.plan import Workload, read_topology, search, sweep
from rlhf_jax.plan.search import candidates
from rlhf_jax.training import UserError

EIGHT = read_topology("h100:8")
JOB = Workload("sft", CONFIG, batch=16, prompt_length=4, answer_length=4)


def described(found):
    return [(each.ways, each.job.config.remat, each.job.parts) for each in found]


def test_candidates_go_from_the_fastest_to_the_smallest():
    """16 rows: 2 on each of 8 devices; two parts need a row for each, four need 4 devices."""
    found = described(candidates(JOB, EIGHT))
    everything = found[:4]
    assert [ways for ways, _, _ in everything] == [
        {"fsdp": 8, "model": 1},
        {"fsdp": 4, "model": 2},
        {"fsdp": 2, "model": 4},
        {"fsdp": 1, "model": 8},
    ]
    assert len({(remat, parts) for _, remat, parts in everything}) == 1
    parts = [(ways["fsdp"], parts) for ways, _, parts in found]
    assert max(p for fsdp, p in parts if fsdp == 8) == 2
    assert max(p for fsdp, p in parts if fsdp == 4) == 4
    assert all(16 % (fsdp * p) == 0 for fsdp, p in parts)


@pytest.mark.long
def test_a_topology_too_small_for_the_parameters_is_refused():
    tiny = EIGHT._replace(chip=EIGHT.chip._replace(hbm=1000))
    with pytest.raises(UserError, match=r"no mesh of h100:8 divides .* take more chips"):
        search(JOB, tiny, tries=2)


@pytest.mark.long
def test_plans_that_fit_come_first_and_meshes_that_do_not_divide_are_left_out():
    lines = []
    found = search(JOB, EIGHT, tries=2, say=lines.append)
    assert [plan.ways for plan in found if plan.fits] == [plan.ways for plan in found]
    assert {tuple(plan.ways.items()) for plan in found} == {
        (("fsdp", 8),),
        (("fsdp", 4), ("model", 2)),  # 4 model ways would not divide the 2 heads of the keys
    }
    assert found[0].seconds <= found[1].seconds
    assert len(lines) == 2


@pytest.mark.long
def test_a_sweep_plans_for_every_number_of_chips_from_eight_on():
    (plan,) = sweep(JOB, EIGHT)
    assert (plan.topology.name, plan.ways) == ("h100:8", {"fsdp": 8})
