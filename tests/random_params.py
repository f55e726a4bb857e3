"""Transformer parameters for tests: a fresh model will not do, since its layers do nothing."""

import jax


def random_params(init, seed=0):
    """Params with noise of deviation 0.3 on every leaf, so that every layer matters.

    A fresh transformer is the identity in each layer, so it would pass any test of caches, padding
    or packing with its attention broken. At the widths of 8 to 24 that tests use, this noise makes
    what each layer adds as large as the embeddings, and tied logits differ by some nats.
    """
    params = jax.jit(init)(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    noisy = [x + 0.3 * jax.random.normal(key, x.shape, x.dtype) for x, key in pairs]
    return jax.tree.unflatten(tree, noisy)
