"""Goal and fruit: upright discs that face the agent, each at one depth, and which of them each column of rays meets.

A disc has radius r and its centre is at depth z, x to the right of the heading and h above the eye. The ray of tangents
a (right) and s (up) meets it where u^2 + v^2 <= 1, u = (a z - x) / r, v = (s z - h) / r. Walls are taller than things,
so a wall nearer than z hides the whole column of a disc. Of the other discs, the `MAX_LAYERS` nearest in each column
are kept (a fifth one in line behind four others would not be drawn).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from environments import core
from environments.maze import constants

GOAL, APPLE, STRAWBERRY, LEMON, MUSHROOM = range(5)
# Sizes and heights are guesses; Lab's models have about these sizes.
RADIUS = np.array([0.2, 0.13, 0.13, 0.13, 0.13], np.float32)  # Cells, by kind.
HEIGHT = np.array([0.35, 0.25, 0.25, 0.25, 0.25], np.float32)  # Of the centre, cells above the floor.
REWARD = np.array(
  [
    constants.GOAL_REWARD,
    constants.APPLE_REWARD,
    constants.STRAWBERRY_REWARD,
    constants.LEMON_REWARD,
    constants.MUSHROOM_REWARD,
  ],
  np.float32,
)
PICTURE_SIZE = 32  # Texels across a disc.
MAX_LAYERS = 4
_NEAREST = 0.02  # Cells: things that are nearer, or behind, are not seen. A thing is eaten at 0.4.
_ORDER_BITS = 10
MAX_THINGS = 1 << _ORDER_BITS
_DEPTH_STEPS = 1 << 12  # Depths of things are distinguished to 1/4096 of a cell.
_FARTHEST = 500.0  # So that depth and number fit into 31 bits.
_NONE = (1 << 31) - 1


class Things(NamedTuple):
  """`F` things; `kind` is fixed, the other fields may change."""

  position: jax.Array  # [F, 2] x, y, cells
  is_present: jax.Array  # [F] bool
  kind: np.ndarray  # [F] int32


class Layers(NamedTuple):
  """The nearest things in each of `K` columns, nearest first, `M` deep; depth is infinite if there is none."""

  depth: jax.Array  # [M, K] cells along the heading
  u: jax.Array  # [M, K] from -1 at a disc's left edge to 1
  scale: jax.Array  # [M, K] depth / radius
  shift: jax.Array  # [M, K] height above the eye / radius: v = s * scale - shift
  kind: jax.Array  # [M, K] int32


def layers(
  things: Things, position: jax.Array, heading: jax.Array, tangents: jax.Array, wall_depth: jax.Array
) -> Layers:
  """What each column shows in front of its wall, `wall_depth` cells `[K]` away; the rest is as in `sight.look`."""
  chex.assert_equal_shape((tangents, wall_depth))
  cosine, sine = jnp.cos(heading), jnp.sin(heading)
  offset = things.position - position[None]
  depth = offset[:, 0] * cosine + offset[:, 1] * sine  # [F]
  right = offset[:, 0] * sine - offset[:, 1] * cosine
  radius = jnp.asarray(RADIUS[things.kind])
  is_met = jnp.abs(tangents[None] * depth[:, None] - right[:, None]) <= radius[:, None]  # [F, K]
  is_met &= (things.is_present & (depth > _NEAREST))[:, None] & (depth[:, None] < wall_depth[None])
  order = (jnp.minimum(depth, _FARTHEST) * _DEPTH_STEPS).astype(jnp.int32) << _ORDER_BITS
  order = jnp.where(is_met, (order + jnp.arange(depth.size, dtype=jnp.int32))[:, None], _NONE)

  def next_nearest(before: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
    chosen = jnp.min(jnp.where(order > before[None], order, _NONE), axis=0)
    return chosen, chosen

  nobody = jnp.full(tangents.shape, -1, jnp.int32)
  _, chosen = jax.lax.scan(
    next_nearest, nobody, None, length=min(MAX_LAYERS, depth.size), unroll=core.unrolled()
  )  # [M, K]
  number = jnp.minimum(chosen & (MAX_THINGS - 1), depth.size - 1)  # Meaningless where there is no thing.

  def of_chosen(values: jax.Array) -> jax.Array:
    return values.at[number].get(mode="promise_in_bounds")

  kind = jnp.where(chosen == _NONE, 0, of_chosen(jnp.asarray(things.kind)))
  inverse = jnp.asarray(1.0 / RADIUS)[kind]
  scale = of_chosen(depth) * inverse
  return Layers(
    depth=jnp.where(chosen == _NONE, jnp.inf, of_chosen(depth)),
    u=tangents[None] * scale - of_chosen(right) * inverse,
    scale=scale,
    shift=jnp.asarray((HEIGHT - constants.EYE_HEIGHT) / RADIUS)[kind],
    kind=kind,
  )


def pictures() -> list[np.ndarray]:
  """The pictures of the discs of each kind, lit balls: `[kinds][32, 32, 3]` uint8, row by row from the top."""
  axis = (np.arange(PICTURE_SIZE) + 0.5) / PICTURE_SIZE * 2.0 - 1.0
  u, v = np.meshgrid(axis, -axis)
  toward = np.sqrt(np.clip(1.0 - u * u - v * v, 0.0, 1.0))
  light = 0.5 + 0.6 * np.clip(-0.4 * u + 0.6 * v + 0.7 * toward, 0.0, 1.0)
  radius = np.hypot(u, v)

  def paint(*layers: tuple[np.ndarray | bool, tuple[int, int, int]]) -> np.ndarray:
    picture = np.zeros((PICTURE_SIZE, PICTURE_SIZE, 3))
    for where, color in layers:
      picture[np.broadcast_to(where, radius.shape)] = color
    return np.clip(picture * light[..., None], 0, 255).astype(np.uint8)

  seeds = (np.sin(9.0 * (u + v)) > 0.75) & (np.sin(9.0 * (u - v)) > 0.75)
  stalk = (np.abs(u) < 0.12) & (v > 0.45)
  leaf = np.hypot(u - 0.35, 1.6 * (v - 0.7)) < 0.28
  crown = v > 0.5 + 0.2 * np.cos(8.0 * u)
  goal = paint((True, (255, 205, 30)), (radius < 0.7, (200, 20, 190)), (radius < 0.4, (255, 245, 160)))
  apple = paint((True, (120, 205, 40)), (leaf, (20, 110, 20)), (stalk, (90, 50, 20)))
  strawberry = paint((True, (235, 20, 60)), (seeds, (255, 225, 120)), (crown, (40, 150, 30)))
  lemon = paint((True, (250, 235, 60)), (np.abs(u) > 0.75, (150, 170, 30)))
  spots = (np.sin(7.0 * u) * np.sin(7.0 * v) > 0.6) & (v > 0.0)
  mushroom = paint((True, (225, 210, 185)), (v > -0.1, (120, 40, 150)), (spots, (250, 250, 250)))
  return [goal, apple, strawberry, lemon, mushroom]
