"""Randomised worlds: ranges from which each episode draws its own camera, colours, light and dynamics.

All ranges are half-widths around the nominal world and are 0 by default; shadows only get weaker. With all ranges at 0
nothing is drawn, and the world is bit-identical to the nominal one.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from environments.jaco import camera, constants, physics


@dataclasses.dataclass(frozen=True)
class Randomization:
  """Half-widths of uniform draws at every reset."""

  camera_m: float = 0.0  # Shift along each axis of the camera and, independently, of the point it looks at.
  field_of_view: float = 0.0  # Relative change of the angle of view.
  light: float = 0.0  # Change of each component of the light's direction (nominally of length one).
  ambient: float = 0.0  # Change of the ambient share of light.
  shadow: float = 0.0  # Largest share by which shadows on the table are weakened; at 1 they can vanish entirely.
  color: float = 0.0  # Change of each RGB component of each material.
  mass: float = 0.0  # Relative change of link mass, the same for all links.
  friction: float = 0.0  # Relative change of each joint's friction.
  gain: float = 0.0  # Relative change of each joint's servo gain.

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      is_number = isinstance(value, int | float) and not isinstance(value, bool)
      is_relative = field.name in ("field_of_view", "mass", "friction", "gain")
      most = 1.0 if is_relative or field.name == "shadow" else math.inf
      if field.name == "camera_m":
        most = 1.0  # The camera sees the arm from 1.5 m.
      if field.name == "light":
        most = float(constants.LIGHT_DIRECTION[2])  # Otherwise the light could come from below.
      if not is_number or not 0 <= value <= most or (value == most and field.name != "shadow"):
        raise ValueError(
          f"{field.name}={value} is not a half-width: from 0 up and finite, relative ones and a camera's below 1, a "
          f"shadow's up to 1, the light's below {constants.LIGHT_DIRECTION[2]}"
        )

  @property
  def is_visual(self) -> bool:
    return any((self.camera_m, self.field_of_view, self.light, self.ambient, self.shadow, self.color))

  @property
  def is_dynamic(self) -> bool:
    return any((self.mass, self.friction, self.gain))


def make(ranges: Randomization | Mapping[str, float] | None) -> Randomization:
  """The randomisation with these fields; None means no randomisation.

  Raises:
    ValueError: for an unknown field, or a value that is not a half-width.
  """
  if isinstance(ranges, Randomization):
    return ranges
  ranges = {} if ranges is None else ranges
  if not hasattr(ranges, "keys"):
    raise ValueError(f"randomization={ranges!r} is no mapping; give fields and their half-widths: {{'light': 0.3}}")
  known = [field.name for field in dataclasses.fields(Randomization)]
  for name in ranges:
    if name not in known:
      raise ValueError(f'randomization has no field "{name}"; it has {", ".join(known)}')
  return Randomization(**ranges)


def draw_appearance(ranges: Randomization, key: jax.Array, nominal: camera.Appearance) -> camera.Appearance:
  """Draws the appearance of one episode around the nominal one."""
  position, look_at, fov, light, ambient, colors = jax.random.split(key, 6)
  shadow = jax.random.fold_in(key, 6)

  def around(key: jax.Array, value: jax.Array, half_width: float) -> jax.Array:
    return value + half_width * jax.random.uniform(key, value.shape, minval=-1.0, maxval=1.0)

  return camera.Appearance(
    camera=dataclasses.replace(
      nominal.camera,
      position=around(position, nominal.camera.position, ranges.camera_m),
      look_at=around(look_at, nominal.camera.look_at, ranges.camera_m),
      fov_y_rad=nominal.camera.fov_y_rad * around(fov, jnp.float32(1.0), ranges.field_of_view),
    ),
    light=around(light, nominal.light, ranges.light),
    ambient=jnp.clip(around(ambient, nominal.ambient, ranges.ambient), 0.0, 1.0),
    shadow=nominal.shadow - ranges.shadow * jax.random.uniform(shadow),
    colors=jnp.clip(around(colors, nominal.colors, ranges.color), 0.0, 1.0),
  )


def draw_dynamics(ranges: Randomization, key: jax.Array) -> physics.Dynamics:
  """Draws the dynamics of one episode."""
  mass, friction, gain = jax.random.split(key, 3)

  def factor(key: jax.Array, shape: tuple[int, ...], half_width: float) -> jax.Array:
    return 1.0 + half_width * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

  joints = (constants.NUM_JOINTS,)
  return physics.Dynamics(
    mass=factor(mass, (), ranges.mass),
    friction=factor(friction, joints, ranges.friction),
    gain=factor(gain, joints, ranges.gain),
  )
