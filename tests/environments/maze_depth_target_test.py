"""The depth heads' target against numpy's own digitising, and the places that it reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import registry
from environments.maze import depth_target

_EDGES = [0.0, 0.05, 0.175, 0.3, 0.425, 0.55, 0.675, 0.8, 1.0]  # papers.md 3.2


def test_bands_are_numpys():
  buffer = np.random.default_rng(0).uniform(0, 1, (40, 50)).astype(np.float32)
  expected = np.clip(np.digitize(buffer.astype(np.float64) ** 10, _EDGES) - 1, 0, 7)
  result = depth_target.bands(jnp.asarray(buffer))
  np.testing.assert_array_equal(result, expected)
  assert result.dtype == jnp.int32 and set(np.unique(result)) == set(range(8))
  np.testing.assert_array_equal(depth_target.bands(jnp.float32([0.0, 1.0])), [0, 7])


def test_the_z_buffer_by_hand():
  result = depth_target.z_buffer(jnp.float32([0.04, 0.08, 0.4, 1.0, jnp.inf]), 0.04)
  np.testing.assert_allclose(result, [0.0, 0.5, 0.9, 0.96, 1.0], rtol=1e-6)


def test_places_are_the_middles_of_boxes():
  rows, columns = depth_target.places((16, 68, 2, 82))
  np.testing.assert_array_equal(rows, [22, 35, 48, 61])  # Boxes of 13 rows from row 16, and
  np.testing.assert_array_equal(columns, np.arange(4, 84, 5))  # of 5 columns from column 2.


@pytest.mark.parametrize(
  "crop", [(16, 85, 2, 82), (16, 18, 2, 82), (-1, 68, 2, 82), (16, 68, 2, 10), (16.9, 68, 2, 82), ("a", 68, 2, 82)]
)
def test_a_crop_that_does_not_fit_is_refused(crop):
  with pytest.raises(ValueError, match="depth_crop"):
    registry.make("maze/static_small", depth_crop=crop)


def test_the_target_is_read_off_the_depth_that_is_seen():
  for options, rows in (({}, slice(22, None, 13)), ({"depth_crop": (0, 84, 2, 82)}, slice(10, None, 21))):
    world = registry.make("maze/static_1", **options)
    seen = jax.jit(lambda key, world=world: world.observe(world.reset(key)))(jax.random.key(3))
    depth = np.asarray(seen.privileged["depth_map"], np.float64)
    buffer = np.where(depth == world.FAR, 1.0, 1 - 0.04 / depth)
    np.testing.assert_allclose(seen.observation["depth"], buffer, atol=1e-5)
    grid = buffer[rows, 4::5][:4, :16]
    np.testing.assert_allclose(seen.privileged["depth_grid"], grid, atol=1e-5)
    result, expected = seen.privileged["depth"], np.clip(np.digitize(grid**10, _EDGES) - 1, 0, 7)
    near_an_edge = np.abs(grid[..., None] ** 10 - _EDGES).min(-1) < 1e-4
    np.testing.assert_array_equal(np.where(near_an_edge, 0, result), np.where(near_an_edge, 0, expected))
    np.testing.assert_array_equal(seen.observation["rgbd"][..., :3], seen.observation["pixels"])
    np.testing.assert_allclose(seen.observation["rgbd"][..., 3], 255 * buffer, atol=0.51)
