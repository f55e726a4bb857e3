"""Transformer parameters for tests: a fresh model will not do, since its layers do nothing."""

import jax


def random_params(init, seed=0):
    """Params with noise of deviation 0.3 on every leaf, so that every layer matters.

    A fresh transformer is the identity in each layer, so it would pass any test of caches, padding
    or packing with its attention broken. At the widths of 8 to 24 that tests use, this noise makes
    what each layer adds as large as the embeddings, and tied logits differ by some nats.
    """

    @jax.jit  # one program; leaf by leaf each shape would be another one
    def noisy():
        leaves, tree = jax.tree.flatten(init(jax.random.key(seed)))
        keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
        pairs = zip(leaves, keys, strict=True)
        found = [x + 0.3 * jax.random.normal(key, x.shape, x.dtype) for x, key in pairs]
        return jax.tree.unflatten(tree, found)

    return noisy()
