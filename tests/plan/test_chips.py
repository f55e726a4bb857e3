"""Topologies by name, and what a ring of chips can send."""

from types import SimpleNamespace

import pytest

from rlhf_jax.plan.chips import CHIPS, bandwidth, read_topology
from rlhf_jax.training import UserError


def slice_of(*coords):
    return [SimpleNamespace(coords=place) for place in coords]


def line(axis, count, dimensions=3):
    return slice_of(*([i if d == axis else 0 for d in range(dimensions)] for i in range(count)))


def test_topologies_are_read_by_name():
    pod = read_topology("v5p:8x8x8")
    assert (pod.count, pod.shape, pod.chip) == (512, (8, 8, 8), CHIPS["v5p"])
    node = read_topology("h100:16")
    assert (node.count, node.shape) == (16, ())


@pytest.mark.parametrize("name", ["v9:4x4", "v5e", "v5e:4x4x4", "v5p:8x8", "h100:2x2", "h100:0"])
def test_an_unknown_topology_lists_the_known(name):
    with pytest.raises(UserError, match=r"choose from v5e:1x1, .* N GPUs as a100:N, h100:N"):
        read_topology(name)


def test_a_ring_that_closes_uses_both_directions():
    pod, part = read_topology("v5p:4x4x4"), read_topology("v5p:2x2x2")
    link = CHIPS["v5p"].link
    assert bandwidth(pod, line(0, 4)) == 2 * link
    assert bandwidth(part, line(0, 2)) == link  # 2 chips: no way around
    assert bandwidth(pod, line(0, 2)) == link  # half of a dimension


def test_an_axis_over_two_dimensions_has_the_links_of_both():
    pod = read_topology("v5e:16x16")
    plane = slice_of(*([x, y, 0] for x in range(16) for y in range(16)))
    assert bandwidth(pod, plane) == 2 * 2 * CHIPS["v5e"].link
    assert bandwidth(read_topology("v5e:4x4"), plane[:4]) == CHIPS["v5e"].link


def test_gpus_of_several_nodes_share_the_network():
    chip = CHIPS["h100"]
    gpus = [SimpleNamespace(id=i) for i in range(16)]
    topology = read_topology("h100:16")
    assert bandwidth(topology, gpus[:8]) == chip.link
    assert bandwidth(topology, gpus[6:10]) == chip.network
