"""Time of a program on a chip, by hand."""

from collections import Counter

import jax
import pytest

from rlhf_jax.plan.chips import CHIPS, read_topology
from rlhf_jax.plan.cost import Collective, Cost
from rlhf_jax.plan.roofline import Link, mfu, network_traffic, roofline
from rlhf_jax.sharding import make_mesh

CHIP = CHIPS["h100"]
EIGHT = read_topology("h100:8")


def test_the_slowest_resource_is_the_limit():
    cost = Cost(CHIP.flops * 0.5, CHIP.bandwidth * 2.0, Counter())
    found = roofline(cost, {}, EIGHT)
    assert (found.limit, found.seconds) == ("HBM", 2.0)
    assert found.times == {"compute": 0.5, "HBM": 2.0, "network": 0.0}
    # half of the chips' peak would be 0.25: 2 s at 8 chips of which 0.5 s each are products
    assert mfu(8 * CHIP.flops * 0.5, found.seconds, EIGHT) == 0.25


def test_bytes_are_sent_along_the_axes_of_the_mesh():
    mesh = make_mesh(fsdp=2, model=4, devices=jax.devices())
    cost = Cost(
        0.0,
        0.0,
        Counter(
            {
                Collective("all-gather", "{{0,4},{1,5},{2,6},{3,7}}"): 100.0,
                Collective("all-reduce", "[2,4]<=[8]"): 100.0,
                Collective("collective-permute", "{{0,1},{1,0},{2,2}}"): 100.0,
                Collective("all-reduce", "[8,1]<=[8]"): 100.0,  # of one device each: nothing
            }
        ),
    )
    found = network_traffic(cost, mesh, EIGHT)
    # a chip sends its 100 bytes to 1 other; 2 * 3/4 of them in a ring of 4; all of them to one
    assert {link: each.sent for link, each in found.items()} == {
        Link("all-gather", "fsdp"): 100.0,
        Link("all-reduce", "model"): 150.0,
        Link("collective-permute", "model"): 100.0,
    }
    bound = roofline(cost, found, EIGHT)
    assert bound.limit == "network"
    assert bound.seconds == pytest.approx(350.0 / CHIP.link)
