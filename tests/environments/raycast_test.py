"""Ray casting against distances found by hand and against MuJoCo's own rays on the same geoms."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from environments import raycast
from environments.jaco import camera, constants, kinematics, model

_STEP_M = raycast.FAR_M / 2**18  # The resolution of distances.

_cast = jax.jit(raycast.cast, static_argnames="is_tiled")


def _nothing(num_rays: int) -> raycast.Hits:
  far = jnp.full((1, num_rays), raycast.FAR_M, jnp.float32)
  return raycast.Hits(far, jnp.zeros_like(far), jnp.full_like(far, 15, jnp.int32))


def _beams(origin: list[float], directions: np.ndarray) -> raycast.Rays:
  x, y, z = jnp.asarray(directions, jnp.float32).T[:, None]
  return raycast.Rays(jnp.asarray(origin, jnp.float32), x, y, z, jnp.ones_like(x))


def _one(start: list[float], end: list[float], radius: float, *, is_flat: bool) -> raycast.Scene:
  one = raycast.Primitives(
    start=jnp.float32([start]), end=jnp.float32([end]), radius=jnp.float32([radius]), material=jnp.int32([3])
  )
  none = jax.tree.map(lambda x: x[:0], one)
  return raycast.Scene(none, one) if is_flat else raycast.Scene(one, none)


# A ray from (0, 0, 2) straight down, light from above; expected distance and cosine to the light by hand.
@pytest.mark.parametrize(
  ("start", "end", "radius", "is_flat", "distance", "facing"),
  [
    ([0, 0, 0], [0, 0, 0], 0.5, False, 1.5, 1.0),  # sphere, met head on
    ([0.3, 0, 0], [0.3, 0, 0], 0.5, False, 2 - 0.4, 0.8),  # sphere, 3-4-5 triangle
    ([-1, 0, 0], [1, 0, 0], 0.25, False, 1.75, 1.0),  # lying capsule, on its side
    ([0.3, 0, 0], [2, 0, 0], 0.5, False, 2 - 0.4, 0.8),  # capsule, on its round end
    ([0, 0, 0], [0, 0, 1], 0.25, False, 0.75, 1.0),  # standing capsule, parallel to the ray
    ([0.1, 0, 0], [0.1, 0, 1], 0.25, True, 1.0, 1.0),  # standing cylinder, on its disc
    ([-1, 0.15, 0], [1, 0.15, 0], 0.25, True, 2 - 0.2, 0.8),  # lying cylinder, off its middle
  ],
)
def test_a_ray_meets_what_geometry_says(start, end, radius, is_flat, distance, facing):
  beams = _beams([0, 0, 2], np.array([[0, 0, -1.0]]))
  light = jnp.float32([0, 0, 1])
  hits = _cast(beams, _one(start, end, radius, is_flat=is_flat), light, _nothing(1))
  np.testing.assert_allclose(hits.distance, [[distance]], atol=2 * _STEP_M)
  np.testing.assert_allclose(hits.facing, [[facing]], atol=1 / 255)
  assert hits.material.tolist() == [[3]]


@pytest.mark.parametrize(
  ("start", "end", "is_flat"),
  [
    ([1, 0, 0], [1, 0, 0], False),  # beside the ray
    ([0.3, 0, 0], [2, 0, 0], True),  # begins beside the ray: a capsule would be hit
    ([0, 0, 4], [0, 0, 5], False),  # behind
  ],
)
def test_a_ray_passes_what_is_not_there(start, end, is_flat):
  beams = _beams([0, 0, 2], np.array([[0, 0, -1.0]]))
  hits = _cast(beams, _one(start, end, 0.25, is_flat=is_flat), jnp.float32([0, 0, 1]), _nothing(1))
  np.testing.assert_allclose(hits.distance, [[raycast.FAR_M]], atol=2 * _STEP_M)
  assert hits.material.tolist() == [[15]]


def test_what_nothing_hides_keeps_its_distance_light_and_material():
  rng = np.random.default_rng(0)
  distance = np.r_[0.0, raycast.FAR_M, 2 * raycast.FAR_M, rng.uniform(0, raycast.FAR_M, 997)].astype(np.float32)
  facing = np.r_[0.0, 1.0, 1.5, rng.uniform(-0.2, 1.2, 997)].astype(np.float32)
  material = rng.integers(0, raycast.MAX_MATERIALS, 1000).astype(np.int32)
  seen = raycast.Hits(*(jnp.asarray(x)[None] for x in (distance, facing, material)))
  beams = _beams([0, 0, 2], np.tile([0, 0, 1.0], (1000, 1)))
  hits = _cast(beams, _one([0, 0, 0], [0, 0, 0], 0.5, is_flat=False), jnp.float32([0, 0, 1]), seen)
  np.testing.assert_allclose(hits.distance[0], np.minimum(distance, raycast.FAR_M), atol=_STEP_M)
  np.testing.assert_array_equal(np.round(np.asarray(hits.facing[0]) * 255), np.floor(np.clip(facing, 0, 1) * 255 + 0.5))
  np.testing.assert_array_equal(hits.material[0], material)


def test_the_nearest_of_many_wins_whatever_their_order():
  heights = jnp.float32([0.2, 1.0, 0.6])
  points = jnp.stack([jnp.zeros(3), jnp.zeros(3), heights], -1)
  balls = raycast.Primitives(points, points, jnp.full(3, 0.1), jnp.arange(3, dtype=jnp.int32))
  balls = raycast.Scene(balls, jax.tree.map(lambda x: x[:0], balls))
  hits = _cast(_beams([0, 0, 2], np.array([[0, 0, -1.0]])), balls, jnp.float32([0, 0, 1]), _nothing(1))
  assert hits.material.tolist() == [[1]]
  np.testing.assert_allclose(hits.distance, [[0.9]], atol=2 * _STEP_M)


def test_the_arm_is_where_mujoco_rays_find_it():
  size = 48
  rng = np.random.default_rng(0)
  qpos = constants.HOME_RAD + rng.uniform(-0.5, 0.5, constants.NUM_JOINTS)
  arm = model.compile_model()
  data = mujoco.MjData(arm)
  data.qpos[:] = qpos
  mujoco.mj_forward(arm, data)

  view = raycast.Camera(jnp.float32([0.9, 0.5, 0.8]), jnp.float32([0.2, 0.0, 0.35]), jnp.float32(0.7))
  beams = raycast.rays(view, height=size, width=size)
  scene = jax.jit(lambda qpos: camera.scene(kinematics.forward(qpos), jnp.zeros(3)))(jnp.float32(qpos))
  scene = scene._replace(capsules=jax.tree.map(lambda x: x[:-2], scene.capsules))  # No ball.
  background = jax.tree.map(lambda x: x.reshape(beams.x.shape), _nothing(size**2))
  hits = jax.tree.map(jnp.ravel, _cast(beams, scene, jnp.float32([0, 0, 1]), background))

  directions = np.stack([beams.x, beams.y, beams.z], -1).astype(np.float64)
  expected, geom = np.zeros(size**2), np.zeros(size**2, np.int32)
  origin = np.asarray(beams.origin, np.float64)
  mujoco.mj_multiRay(arm, data, origin, directions.ravel(), None, 1, -1, geom, expected, None, size**2, 10.0)
  is_hit = expected >= 0
  assert 0.05 < is_hit.mean() < 0.9  # The arm is in the picture.
  agree = (np.asarray(hits.material) != 15) == is_hit
  assert agree.mean() > 0.995  # Grazing rays may differ.
  both = agree & is_hit
  error = np.abs(np.asarray(hits.distance) - expected)[both]
  assert np.quantile(error, 0.99) < 1e-4 and np.median(error) < _STEP_M


def test_rays_span_the_field_of_view():
  view = raycast.Camera(jnp.zeros(3), jnp.float32([1, 0, 0]), jnp.float32(np.pi / 2))
  beams = raycast.rays(view, height=2, width=2)  # Pixel centres at +-1/2 of tan 45 degrees.
  expected = np.array([[1, 0.5, 0.5], [1, -0.5, 0.5], [1, 0.5, -0.5], [1, -0.5, -0.5]]) / np.sqrt(1.5)
  np.testing.assert_allclose(np.stack([beams.x, beams.y, beams.z], -1)[0], expected, atol=1e-6)  # +y is on the left.
  np.testing.assert_allclose(beams.forward[0], np.full(4, 1 / np.sqrt(1.5)), rtol=1e-6)


def test_tiles_of_many_worlds_meet_what_all_their_rays_meet():
  """Batches of batches, cameras near and far, in the middle of the arm and looking along it, poses far from home."""
  rng = np.random.default_rng(0)
  qpos = jnp.float32(rng.uniform(-np.pi, np.pi, (2, 8, constants.NUM_JOINTS)))
  position = jnp.float32(rng.uniform(-1.2, 1.2, (2, 8, 3)))
  light = jnp.float32([0, 0, 1])

  def cast(qpos, position, is_tiled):
    view = raycast.Camera(position, jnp.float32([0.2, 0.0, 0.35]), jnp.float32(1.2))
    beams = raycast.rays(view, height=16, width=24)
    background = jax.tree.map(lambda x: x.reshape(beams.x.shape), _nothing(beams.x.size))
    return _cast(beams, camera.scene(kinematics.forward(qpos), position), light, background, is_tiled=is_tiled)

  tiled, every = (
    jax.jit(jax.vmap(jax.vmap(lambda q, p, is_tiled=is_tiled: cast(q, p, is_tiled))))(qpos, position)
    for is_tiled in (True, False)
  )
  is_same = tiled.material == every.material
  assert 0.02 < (every.material != 15).mean() < 0.9 and is_same.mean() > 0.999  # Grazing rays may differ.
  np.testing.assert_allclose(tiled.distance[is_same], every.distance[is_same], atol=1e-3)


def test_a_tile_tries_only_what_it_may_see():
  """A ball in the middle of the lower right of 2 x 2 tiles, a lying capsule across the upper two."""
  view = raycast.Camera(jnp.zeros(3), jnp.float32([1, 0, 0]), jnp.float32(np.pi / 2))
  beams = raycast.rays(view, height=16, width=16)
  start, end = jnp.float32([[1, -0.5, -0.5], [1, 0.5, 0.5]]), jnp.float32([[1, -0.5, -0.5], [1, -0.5, 0.5]])
  both = raycast.Primitives(start, end, jnp.full(2, 0.1), jnp.arange(2, dtype=jnp.int32))
  assert raycast.seen(beams, both).tolist() == [0b10, 0b10, 0, 0b01]


def test_a_picture_puts_tiles_where_they_belong():
  beams = raycast.rays(camera.nominal().camera, height=16, width=24)
  forward = raycast.picture(beams.forward, height=16, width=24)
  across, down = (2 * (np.arange(n) + 0.5) / n - 1 for n in (24, 16))
  half = np.tan(camera.nominal().camera.fov_y_rad / 2)
  expected = 1 / np.sqrt(1 + (across[None] * half * 1.5) ** 2 + (down[:, None] * half) ** 2)
  np.testing.assert_allclose(forward, expected, rtol=1e-6)
