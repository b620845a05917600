"""The eight maps against numpy, and worlds that differ in nothing but the map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import core, registry
from environments.pong import constants as c
from environments.pong import variants, world

_DEFAULT = variants.Options()


def _picture(seed: int = 0) -> np.ndarray:
  """Half background, half random."""
  rng = np.random.default_rng(seed)
  picture = rng.integers(0, 256, (84, 84)).astype(np.uint8)
  return np.where(rng.random((84, 84)) < 0.5, np.uint8(c.BACKGROUND), picture)


def _shrunk(picture: np.ndarray) -> np.ndarray:
  """Area averages, 84 -> 63, by brute force."""
  rows = np.repeat(picture.astype(np.float64), 63, axis=0).reshape(63, 84, 84).mean(1)
  return np.repeat(rows, 63, axis=1).reshape(63, 63, 84).mean(2)


def _expected(name: str, picture: np.ndarray) -> np.ndarray:
  match name:
    case "noisy":
      return np.clip(picture.astype(int) + variants.noise(_DEFAULT), 0, 255)
    case "black":
      return np.where(picture == 87, 0, picture)
    case "white":
      return np.where(picture == 87, 255, picture)
    case "zoom":
      zoomed = np.full((84, 84), 87)
      zoomed[21:, 21:] = np.floor(_shrunk(picture) + 0.5)
      return zoomed
    case "h_flip":
      return np.fliplr(picture)
    case "v_flip":
      return np.flipud(picture)
    case "hv_flip":
      return np.rot90(picture, 2)
  return picture


@pytest.mark.parametrize("name", variants.NAMES)
def test_maps_are_those_of_numpy_and_pure(name):
  picture = _picture()
  once = variants.apply(name, jnp.asarray(picture), _DEFAULT)
  assert once.dtype == jnp.uint8 and once.shape == (84, 84)
  np.testing.assert_array_equal(once, _expected(name, picture))
  again = jax.jit(lambda p: variants.apply(name, p, _DEFAULT))(jnp.asarray(picture))
  np.testing.assert_array_equal(once, again)
  many = jnp.asarray(np.stack([_picture(1), picture]))
  np.testing.assert_array_equal(jax.vmap(lambda p: variants.apply(name, p, _DEFAULT))(many)[1], once)
  assert name == "pong" or (np.asarray(once) != picture).any()


def test_noise_is_frozen_gaussian_and_as_strong_as_asked():
  noise = variants.noise(variants.Options(noise_sigma=20.0))
  assert abs(noise.mean()) < 1.0 and abs(noise.std() - 20.0) < 0.5
  assert 0.66 < (np.abs(noise) <= 20).mean() < 0.72  # 68 % of a normal variable lies within one sigma.
  np.testing.assert_array_equal(noise, variants.noise(variants.Options(noise_sigma=20.0)))
  assert (noise != variants.noise(variants.Options(noise_sigma=20.0, noise_seed=1))).mean() > 0.9


def test_zoom_goes_where_it_is_told():
  picture = jnp.zeros((84, 84), jnp.uint8)
  zoomed = np.asarray(variants.apply("zoom", picture, variants.Options(zoom_offset=(3, 10))))
  assert (zoomed[3:66, 10:73] == 0).all() and (zoomed == 0).sum() == 63 * 63
  assert (zoomed[zoomed != 0] == c.BACKGROUND).all()


@functools.cache
def _stepper(name: str):
  """A world, and its step and observation as one compiled function."""
  place = registry.make(f"pong/{name}", num_actions=3)

  def step(state, action):
    state = place.step(state, action[None])
    return state, place.observe(state)

  return place, jax.jit(step)


def _episode(name: str, actions: list[int]) -> list[core.TimeStep]:
  place, step = _stepper(name)
  state, shown = place.reset(jax.random.key(0)), []
  for action in actions:
    state, timestep = step(state, jnp.int32(action))
    shown.append(jax.device_get(timestep))
  return shown


@pytest.mark.parametrize("name", variants.NAMES[1:])
def test_a_variants_game_is_the_same_and_its_pictures_are_mapped(name):
  actions = np.random.default_rng(0).integers(0, 3, 40).tolist()
  for t, (ours, plain) in enumerate(zip(_episode(name, actions), _episode("pong", actions), strict=True)):
    assert ours.reward == plain.reward and ours.step_type == plain.step_type
    jax.tree.map(np.testing.assert_array_equal, ours.privileged, plain.privileged)
    if t in (0, 1, 20, 39):  # Each picture of the stack is mapped alone; the first come from reset.
      for i in range(4):
        expected = _expected(name, plain.observation["pixels"][..., i])
        np.testing.assert_array_equal(ours.observation["pixels"][..., i], expected)


@pytest.mark.parametrize("name", variants.NAMES)
def test_actions_keep_their_meaning(name):
  """RIGHT moves the paddle up in the game, whatever the picture shows."""
  tops = [float(_episode(name, [action] * 5)[-1].privileged["paddle_position"][1]) for action in range(3)]
  assert tops[1] < tops[0] < tops[2]


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("pong/noisy", {"noise_sigma": -1.0}, "noise_sigma=-1.0"),
    ("pong/noisy", {"noise_seed": -1}, "noise_seed=-1 must not be below 0"),
    ("pong/noisy", {"noise_sigma": np.inf}, "noise_sigma=inf must be finite"),
    ("pong/zoom", {"zoom_offset": (0, 22)}, r"zoom_offset=\(0, 22\) .* 0 to 21"),
    ("pong/zoom", {"zoom": 0.5}, "zoom"),
    ("pong/nosy", {}, 'the nearest is "pong/noisy"'),
  ],
)
def test_what_cannot_be_is_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    registry.make(name, **options)


def test_an_unknown_variant_is_refused():
  with pytest.raises(ValueError, match='no variant is called "negative"; there are pong, noisy'):
    world.Pong("negative")
