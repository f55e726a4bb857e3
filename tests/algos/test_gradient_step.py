"""What every update shares: the check that a loss gives one value per example."""

from functools import partial

import jax.numpy as jnp
import pytest

from rlhf_jax.algos.gradient import check_losses
from rlhf_jax.losses.policy_gradient import ppo_clip_loss


def test_one_loss_per_example_passes():
    check_losses(jnp.zeros((4, 2)), (4, 2), loss=ppo_clip_loss, per="pair")


def test_losses_per_token_are_refused_by_the_name_of_the_loss_and_both_shapes():
    loss = partial(ppo_clip_loss, clip_eps=0.2)
    message = r"ppo_clip_loss returned losses of shape \[4, 7\].* one per pair, \[4\]"
    with pytest.raises(ValueError, match=message):
        check_losses(jnp.zeros((4, 7)), (4,), loss=loss, per="pair")
