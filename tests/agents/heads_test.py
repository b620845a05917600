import dataclasses

import jax.numpy as jnp
import numpy as np

from agents import distributions, heads
from tests.progressive import columns


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


def test_the_value_alone_is_scaled_through_all_that_the_output_sums_up():
  """Two columns, with an adapter among the terms that the output sums."""
  first = columns.feed_forward()
  output = dataclasses.replace(first.layers[-1], laterals="adapter")
  spec, params = columns.grown(
    first, dataclasses.replace(first, layers=(*first.layers[:-1], output)), output_init="random"
  )
  scaled = heads.scale_value(params, 4.0)
  before, after = (columns.outputs(spec, p, columns.inputs(3)) for p in (params, scaled))
  np.testing.assert_array_equal(after, np.asarray(before) * [1, 1, 1, 1, 1, 1, 4])
  assert np.abs(before[:, -1]).min() > 0 and scaled[0] is params[0]
