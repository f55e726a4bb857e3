"""Expectile regression as the shared test sees it."""

from functools import partial

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.expectile import expectile_loss

PAIR = (real(), real())

CASES = {"expectile": Case(partial(expectile_loss, expectile=0.7), PAIR, (0,))}
SWEPT = {"expectile": Sweep(expectile_loss, "expectile", PAIR, (0.1, 0.5, 0.9))}
