"""One control step of the arm: `(params, qpos, qvel, ctrl) -> (qpos, qvel)`, with two implementations of one model.

On accelerators MJX steps the model inside the program. On a CPU MJX runs slowly and compiles even more slowly, so there
`jax.pure_callback` passes the whole batch to C MuJoCo's thread pool. Both are tested against each other.
"""

import copy
import math
import os
import threading
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from mujoco import rollout

from environments.jaco import constants, model

if TYPE_CHECKING:
  from mujoco import mjx


@struct.dataclass
class Dynamics:
  """How one world's arm may differ from another's, as factors on the nominal model.

  In both implementations, MuJoCo's derived constants (constraint regularisation) stay those of the nominal model.
  """

  mass: jax.Array  # [] every link's mass and inertia
  friction: jax.Array  # [9] joint friction; above 0, because MJX locks a joint whose friction is exactly 0
  gain: jax.Array  # [9] servo gain


class Step(Protocol):
  """The interface of both implementations."""

  def __call__(
    self, params: Dynamics | None, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Advances one control step while `ctrl`, rad/s, is held; all are float32 `[9]`, angles in radians.

    `params` is the world's dynamics, or None for the nominal arm.
    """


def resolve(kind: str) -> str:
  """What "auto" means on this backend; any other kind is returned unchanged."""
  return kind if kind != "auto" else "mujoco" if jax.default_backend() == "cpu" else "mjx"


def make(kind: str = "auto", num_threads: int | None = None) -> Step:
  """The physics named `kind`: "mjx", "mujoco", or "auto", which is MuJoCo on a CPU and MJX elsewhere."""
  kind = resolve(kind)
  if kind == "mujoco":
    return _mujoco_step(num_threads or len(os.sched_getaffinity(0)))
  if kind == "mjx":
    return _mjx_step()
  raise ValueError(f'physics_kind={kind!r} is none of "auto", "mjx", "mujoco"')


def _mjx_step() -> Step:
  from mujoco import mjx  # Imported here: a CPU never needs it, and the import is slow.

  arm = model.compile_model()
  # MuJoCo's limits, 100 and 50, are meant for one world. A batch iterates until its last world is done, and all steps
  # of a line search are launched. With limits of 6 and 3, angles agree to 7e-6 rad; with 8 and 2 they are off by 3e-3,
  # and with 4 and 4 by 3e-4 (64 worlds, after 25 and 50 control steps).
  arm.opt.iterations, arm.opt.ls_iterations = 8, 4
  nominal = mjx.put_model(arm)
  blank = mjx.make_data(nominal)
  # `make_data` returns weak types that a step strengthens. Without this line everything would compile twice.
  blank = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), blank)

  def substep(arm: "mjx.Model", data: "mjx.Data") -> "mjx.Data":
    # `mjx.step` integrates as if a saturated servo still damped its joint; C MuJoCo leaves such servos out. Without
    # this correction the arm accelerates half as fast as in C.
    data = mjx.forward(arm, data)
    is_saturated = jnp.abs(data.actuator_force) >= arm.actuator_forcerange[:, 1]
    damping = jnp.where(is_saturated[:, None], 0.0, arm.actuator_biasprm)
    return mjx.implicit(arm.replace(actuator_biasprm=damping), data)

  def step(params: Dynamics | None, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> tuple[jax.Array, jax.Array]:
    # MJX's own code is not written for strict promotion.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
      arm = nominal if params is None else _vary_mjx(nominal, params)
      data = blank.replace(qpos=qpos, qvel=qvel, ctrl=ctrl)
      data = jax.lax.fori_loop(0, constants.NUM_SUBSTEPS, lambda _, d: substep(arm, d), data)
    return data.qpos, data.qvel

  return step


def _vary_mjx(nominal: "mjx.Model", params: Dynamics) -> "mjx.Model":
  return nominal.replace(
    body_mass=nominal.body_mass * params.mass,
    body_subtreemass=nominal.body_subtreemass * params.mass,
    body_inertia=nominal.body_inertia * params.mass,
    dof_frictionloss=nominal.dof_frictionloss * params.friction,
    actuator_gainprm=nominal.actuator_gainprm.at[:, 0].multiply(params.gain),
    actuator_biasprm=nominal.actuator_biasprm.at[:, 2].multiply(params.gain),
  )


class _MujocoPool:
  """C MuJoCo for a batch of worlds: one thread pool, and one copy of the model per world that varies."""

  def __init__(self, num_threads: int):
    self._nominal = model.compile_model()
    # Otherwise MuJoCo silently resets a diverging arm to zero angles. MJX has no such flag.
    self._nominal.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    self._rollout = rollout.Rollout(nthread=num_threads)
    self._data = [mujoco.MjData(self._nominal) for _ in range(num_threads)]
    self._models: list[mujoco.MjModel] = []
    self._factors = np.zeros((0, 0))
    self._lock = threading.Lock()  # Two programs may run at once; the pool serves one.

  def step(self, worlds: np.ndarray) -> np.ndarray:
    """Steps angles, velocities, commands and, if worlds vary, 19 factors `[B, 27 or 46]` to new states `[B, 18]`."""
    joints = constants.NUM_JOINTS
    state = np.zeros((len(worlds), 1 + 2 * joints))  # Time comes first; nothing depends on it.
    state[:, 1:] = worlds[:, : 2 * joints]
    control = np.repeat(worlds[:, None, 2 * joints : 3 * joints].astype(np.float64), constants.NUM_SUBSTEPS, axis=1)
    factors = worlds[:, 3 * joints :]
    with self._lock:
      models = self._nominal if factors.shape[1] == 0 else self._vary(factors)
      states, _ = self._rollout.rollout(models, self._data, state, control)
    return states[:, -1, 1:]

  def _vary(self, factors: np.ndarray) -> list[mujoco.MjModel]:
    """Models of the worlds; only those whose factors changed (at a reset) are rewritten."""
    num_worlds = factors.shape[0]
    while len(self._models) < num_worlds:
      self._models.append(copy.copy(self._nominal))
    if self._factors.shape != factors.shape:
      self._factors = np.full_like(factors, np.nan)
    for world in np.flatnonzero((self._factors != factors).any(axis=1)):
      mass, friction, gain = np.split(factors[world].astype(np.float64), [1, 1 + constants.NUM_JOINTS])
      arm = self._models[world]
      arm.body_mass[:] = self._nominal.body_mass * mass
      arm.body_subtreemass[:] = self._nominal.body_subtreemass * mass
      arm.body_inertia[:] = self._nominal.body_inertia * mass
      arm.dof_frictionloss[:] = self._nominal.dof_frictionloss * friction
      arm.actuator_gainprm[:, 0] = self._nominal.actuator_gainprm[:, 0] * gain
      arm.actuator_biasprm[:, 2] = self._nominal.actuator_biasprm[:, 2] * gain
    self._factors = factors.copy()
    return self._models[:num_worlds]


def _mujoco_step(num_threads: int) -> Step:
  pool = _MujocoPool(num_threads)

  def host(worlds: jax.Array) -> np.ndarray:
    array = np.asarray(worlds)  # numpy first: JAX calls inside a callback can deadlock.
    states = pool.step(array.reshape(math.prod(array.shape[:-1]), array.shape[-1]))
    return states.astype(np.float32).reshape(*array.shape[:-1], 2 * constants.NUM_JOINTS)

  def step(params: Dynamics | None, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> tuple[jax.Array, jax.Array]:
    factors = [] if params is None else [params.mass[None], params.friction, params.gain]
    result = jax.ShapeDtypeStruct((2 * constants.NUM_JOINTS,), jnp.float32)
    # One callback serves all worlds, since vmap passes it the whole batch. One array goes each way, as each costs time.
    world = jnp.concatenate([qpos, qvel, ctrl, *factors])
    state = jax.pure_callback(host, result, world, vmap_method="broadcast_all")
    return state[: constants.NUM_JOINTS], state[constants.NUM_JOINTS :]

  return step
