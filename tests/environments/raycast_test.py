"""Ray casting against distances found by hand and against MuJoCo's own rays on the same geoms."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from environments import raycast
from environments.jaco import camera, constants, kinematics, model

_STEP_M = raycast.FAR_M / 2**18  # Distances are kept to this.


def _nothing(num_rays: int) -> raycast.Hits:
  far = jnp.full(num_rays, raycast.FAR_M, jnp.float32)
  return raycast.Hits(far, jnp.zeros(num_rays, jnp.float32), jnp.full(num_rays, 15, jnp.int32))


def _beams(origin: list[float], directions: np.ndarray) -> raycast.Rays:
  x, y, z = jnp.asarray(directions, jnp.float32).T
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
  hits = raycast.cast(beams, _one(start, end, radius, is_flat=is_flat), light, _nothing(1))
  np.testing.assert_allclose(hits.distance, [distance], atol=2 * _STEP_M)
  np.testing.assert_allclose(hits.facing, [facing], atol=1 / 255)
  assert hits.material.tolist() == [3]


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
  hits = raycast.cast(beams, _one(start, end, 0.25, is_flat=is_flat), jnp.float32([0, 0, 1]), _nothing(1))
  np.testing.assert_allclose(hits.distance, [raycast.FAR_M], atol=2 * _STEP_M)
  assert hits.material.tolist() == [15]


def test_what_nothing_hides_keeps_its_distance_light_and_material():
  rng = np.random.default_rng(0)
  distance = np.r_[0.0, raycast.FAR_M, 2 * raycast.FAR_M, rng.uniform(0, raycast.FAR_M, 997)].astype(np.float32)
  facing = np.r_[0.0, 1.0, 1.5, rng.uniform(-0.2, 1.2, 997)].astype(np.float32)
  material = rng.integers(0, raycast.MAX_MATERIALS, 1000).astype(np.int32)
  seen = raycast.Hits(jnp.asarray(distance), jnp.asarray(facing), jnp.asarray(material))
  beams = _beams([0, 0, 2], np.tile([0, 0, 1.0], (1000, 1)))
  hits = raycast.cast(beams, _one([0, 0, 0], [0, 0, 0], 0.5, is_flat=False), jnp.float32([0, 0, 1]), seen)
  np.testing.assert_allclose(hits.distance, np.minimum(distance, raycast.FAR_M), atol=_STEP_M)
  np.testing.assert_array_equal(np.round(np.asarray(hits.facing) * 255), np.floor(np.clip(facing, 0, 1) * 255 + 0.5))
  np.testing.assert_array_equal(hits.material, material)


def test_the_nearest_of_many_wins_whatever_their_order():
  heights = jnp.float32([0.2, 1.0, 0.6])
  points = jnp.stack([jnp.zeros(3), jnp.zeros(3), heights], -1)
  balls = raycast.Primitives(points, points, jnp.full(3, 0.1), jnp.arange(3, dtype=jnp.int32))
  balls = raycast.Scene(balls, jax.tree.map(lambda x: x[:0], balls))
  hits = raycast.cast(_beams([0, 0, 2], np.array([[0, 0, -1.0]])), balls, jnp.float32([0, 0, 1]), _nothing(1))
  assert hits.material.tolist() == [1]
  np.testing.assert_allclose(hits.distance, [0.9], atol=2 * _STEP_M)


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
  scene = camera.scene(kinematics.forward(jnp.float32(qpos)), jnp.zeros(3))
  scene = scene._replace(capsules=jax.tree.map(lambda x: x[:-2], scene.capsules))  # No ball.
  hits = jax.jit(raycast.cast)(beams, scene, jnp.float32([0, 0, 1]), _nothing(size**2))

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
  np.testing.assert_allclose(np.stack([beams.x, beams.y, beams.z], -1), expected, atol=1e-6)  # +y is on the left.
  np.testing.assert_allclose(beams.forward, np.full(4, 1 / np.sqrt(1.5)), rtol=1e-6)
