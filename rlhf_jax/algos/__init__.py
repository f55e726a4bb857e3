"""Update rules: `make_update(policy, optimizer, ...)` gives a pure `update(state, batch)`.

The policy arrives as an argument; jit, vmap, scan and sharding are applied from outside.
"""
