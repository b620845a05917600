import jax.numpy as jnp
import numpy as np

from agents import distributions, heads


def test_equal_entries_are_cut_in_order_with_the_value_last():
  # 9 joints x 3 choices as on the arm, against numpy's own split.
  flat = np.random.default_rng(2).normal(size=(4, 28)).astype(np.float32)
  logits, value = heads.split(jnp.asarray(flat), (3,) * 9)
  np.testing.assert_array_equal(logits, np.stack(np.split(flat[:, :27], 9, axis=-1), axis=1))
  np.testing.assert_array_equal(value, flat[:, 27])


def test_unequal_entries_are_padded_with_the_impossible():
  output = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], jnp.float32)
  logits, value = heads.split(output, (2, 3))
  np.testing.assert_array_equal(logits, np.array([[1, 2, distributions.IMPOSSIBLE], [3, 4, 5]], np.float32))
  assert float(value) == 6.0
