"""The benchmark of the Jaco: physics and pixels beside MuJoCo's own, learning, and the twin through its bridge."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout

from environments import registry
from environments.arm import client, server, twin, viewpoint
from environments.jaco import constants, model, physics
from experiments.configs import jaco_corl2017
from experiments.setup import learn
from experiments.suites import stages

_PHYSICS_STEPS = 50  # Control steps in one timed call.


def _physics(settings: stages.Settings) -> Iterator[stages.Row]:
  """Ten substeps of 10 ms in every world, inside a jit; the peer is bare `mujoco.rollout` on the same model."""
  shape = (settings.num_worlds, constants.NUM_JOINTS)
  step = jax.vmap(physics.make(), in_axes=(None, 0, 0, 0))
  rng = np.random.default_rng(0)
  # One command per control step, from a random policy.
  ctrl = (rng.integers(-1, 2, (_PHYSICS_STEPS, *shape)) * constants.COMMAND_RAD_S).astype(np.float32)

  @jax.jit
  def ours(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.lax.scan(lambda state, c: (step(None, *state, c), None), (qpos, qvel), ctrl)[0]

  qpos, qvel = jnp.tile(jnp.float32(constants.HOME_RAD), (shape[0], 1)), jnp.zeros(shape)
  device_ctrl = jnp.asarray(ctrl)
  num = settings.num_worlds * _PHYSICS_STEPS

  def run_ours() -> Any:
    return jax.block_until_ready(ours(qpos, qvel, device_ctrl))

  aim = ">= 8,000" if settings.is_cpu else ""
  if not settings.is_cpu:
    yield stages.row("physics", run_ours, num, "steps/s", aim, settings)
    return

  arm = model.compile_model()
  pool = rollout.Rollout(nthread=len(os.sched_getaffinity(0)))
  data = [mujoco.MjData(arm) for _ in range(len(os.sched_getaffinity(0)))]
  state = np.zeros((shape[0], 1 + 2 * constants.NUM_JOINTS))
  state[:, 1 : 1 + constants.NUM_JOINTS] = constants.HOME_RAD
  held = np.repeat(np.swapaxes(ctrl, 0, 1), constants.NUM_SUBSTEPS, axis=1).astype(np.float64)
  seconds = stages.blocks([run_ours, lambda: pool.rollout(arm, data, state, held)], settings)
  yield stages.Row("physics", stages.rate([s for s, _ in seconds], num), "steps/s", aim)
  yield stages.Row("  bare mujoco.rollout", stages.rate([s for _, s in seconds], num), "steps/s", "")
  note = "one rollout of all steps, nothing in between"
  yield stages.Row("  ours / bare", stages.ratio(seconds), "x", ">= 0.8", note)


def _pixels(settings: stages.Settings) -> Iterator[stages.Row]:
  """64x64 pictures of a batch; the peer is MuJoCo's OpenGL renderer on the same primitives.

  The twin's camera drives the peer: the calls of `mujoco.Renderer` without its overhead, shadows, antialiasing.
  """
  world = registry.make("jaco/reach/random")
  worlds = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.key(0), settings.num_worlds))
  ours = jax.jit(jax.vmap(lambda state: world.observe(state).observation["pixels"]))

  def run_ours() -> Any:
    return jax.block_until_ready(ours(worlds))

  aim = ">= 5,000" if settings.is_cpu else ">= 3,000,000"
  if not settings.is_cpu:
    yield stages.row("pixels", run_ours, settings.num_worlds, "frames/s", aim, settings)
    return

  num_peer = 16
  peer = _make_renderer()
  seconds = [
    (a, b * settings.num_worlds / num_peer) for a, b in stages.blocks([run_ours, lambda: peer(num_peer)], settings)
  ]
  yield stages.Row("pixels", stages.rate([s for s, _ in seconds], settings.num_worlds), "frames/s", aim)
  peer_rate = stages.rate([s for _, s in seconds], settings.num_worlds)
  yield stages.Row("  MuJoCo's renderer", peer_rate, "frames/s", "", os.environ.get("MUJOCO_GL", "osmesa"))
  yield stages.Row("  ours / MuJoCo's renderer", stages.ratio(seconds), "x", ">= 10")


def _bridge(settings: stages.Settings) -> Iterator[stages.Row]:
  """The twin in a process of its own, through the bridge, as fast as possible, with a picture in every step."""
  with server.launch(server.ServerConfig(driver=twin.TwinConfig(), task="reach/random"), timeout_s=180.0) as address:
    environment = client.connect(address)
    spec = environment.action_spec()
    rng = np.random.default_rng(0)
    environment.reset()

    def run() -> None:
      for _ in range(50):
        environment.step(rng.integers(0, 3, spec.shape).astype(spec.dtype))

    note = "random actions, resets included"
    measured = stages.row("twin through the bridge", run, 50, "steps/s", ">= 250", settings, note)
    environment.close()
  yield measured


def _make_renderer() -> Callable[[int], None]:
  """Returns a function that draws the simulation's primitives `n` times with MuJoCo, moving the arm in between."""
  spec = mujoco.MjSpec.from_string(model.mjcf())
  spec.visual.quality.shadowsize = spec.visual.quality.offsamples = 0
  low, high = constants.TABLE_LOW_M, constants.TABLE_HIGH_M
  world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
  world.add_geom(type=box, pos=(*(low + high) / 2, -0.02), size=(*(high - low) / 2, 0.02))
  world.add_geom(type=box, pos=(0, 0, -0.8), size=(5, 5, 0.02))
  target = (constants.TARGET_LOW_M + constants.TARGET_HIGH_M) / 2
  world.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=target, size=(constants.TARGET_RADIUS_M, 0, 0))
  view = viewpoint.Viewpoint()
  world.add_camera(name="camera", pos=view.position_m, quat=view.quaternion, fovy=view.fov_y_deg)
  arm = spec.compile()
  data = mujoco.MjData(arm)
  camera = twin.Camera(arm, constants.IMAGE_SIZE)
  rng = np.random.default_rng(0)

  def draw(n: int) -> None:
    for _ in range(n):
      data.qpos[:] = constants.HOME_RAD + 0.3 * rng.uniform(-1, 1, constants.NUM_JOINTS)
      camera.render(data)

  return draw


# The paper's wide recurrent column on `jaco/reach/random`.
_LEARNER = stages.Learner(
  lambda: learn.make(jaco_corl2017.get_config()),
  {"learn": (">= 3,500", ""), "play": (">= 3,000", ">= 500,000"), "train": (">= 1,500", ">= 300,000")},
)
STAGES: Mapping[str, stages.Stage] = {
  "physics": _physics,
  "pixels": _pixels,
  **stages.of(_LEARNER),
  "bridge": _bridge,
}
