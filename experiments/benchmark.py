"""Measures how fast every stage is, beside its aim and, where one installs, beside a peer in the same run.

    python -m experiments.benchmark --suite=jaco

Unit: agent steps (one action with all its substeps) or frames a second; the median of blocks timed after warming up.
Peers are timed in turn with ours, block by block, so that whatever else the machine does slows both. Never a test:
nothing here passes or fails. The table is written to
`--workdir`, runs/benchmark, as <suite>.json. Aims are those of two CPU cores, or of one H200 where JAX has a GPU.
"""

import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from absl import flags
from mujoco import rollout

from agents import actor_critic, unroll
from analysis import curves
from environments import batch as batch_lib
from environments import registry
from environments.arm import client, server, twin
from environments.jaco import constants, model, physics
from experiments import binary, loop, run_directory, session, train
from experiments.configs import jaco_corl2017
from progressive import partition

_SUITE = flags.DEFINE_string("suite", "jaco", "Which suite: a name in SUITES.")
_STAGES = flags.DEFINE_list("stages", [], "Only these stages of the suite; all where empty.")
_NUM_WORLDS = flags.DEFINE_integer("num_worlds", 0, "Worlds in a batch; 0: 128 on a CPU, 4096 on an accelerator.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Seconds of timing for each number, after warming up.")

_NUM_STEPS = 20  # T, the length of an unroll.
_PHYSICS_STEPS = 50  # Control steps in one timed call.


class Settings(NamedTuple):
  """What all stages share."""

  num_worlds: int
  seconds: float
  is_cpu: bool


class Row(NamedTuple):
  """One measurement."""

  stage: str
  measured: float
  unit: str
  aim: str  # Such as '>= 8,000'; empty where there is none.
  note: str = ""


Stage = Callable[[Settings], Iterator[Row]]


def physics_stage(settings: Settings) -> Iterator[Row]:
  """Ten substeps of 10 ms in every world, from inside a jit; the peer is bare `mujoco.rollout` on the same model."""
  shape = (settings.num_worlds, constants.NUM_JOINTS)
  step = jax.vmap(physics.make(), in_axes=(None, 0, 0, 0))
  rng = np.random.default_rng(0)
  # One command a control step: a random policy's.
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
    yield Row("physics", _median([s for (s,) in _blocks([run_ours], settings)], num), "steps/s", aim)
    return

  arm = model.compile_model()
  pool = rollout.Rollout(nthread=len(os.sched_getaffinity(0)))
  data = [mujoco.MjData(arm) for _ in range(len(os.sched_getaffinity(0)))]
  state = np.zeros((shape[0], 1 + 2 * constants.NUM_JOINTS))
  state[:, 1 : 1 + constants.NUM_JOINTS] = constants.HOME_RAD
  held = np.repeat(np.swapaxes(ctrl, 0, 1), constants.NUM_SUBSTEPS, axis=1).astype(np.float64)
  seconds = _blocks([run_ours, lambda: pool.rollout(arm, data, state, held)], settings)
  yield Row("physics", _median([s for s, _ in seconds], num), "steps/s", aim)
  yield Row("  bare mujoco.rollout", _median([s for _, s in seconds], num), "steps/s", "")
  yield Row("  ours / bare", _median_ratio(seconds), "x", ">= 0.8", "one rollout of all steps, nothing in between")


def pixels_stage(settings: Settings) -> Iterator[Row]:
  """64x64 pictures of a batch; the peer is MuJoCo's OpenGL renderer on the same primitives.

  The peer is driven by the twin's camera: the calls of `mujoco.Renderer` without its overhead, shadows, antialiasing.
  """
  world = registry.make("jaco/reach/random")
  worlds = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.key(0), settings.num_worlds))
  ours = jax.jit(jax.vmap(lambda state: world.observe(state).observation["pixels"]))

  def run_ours() -> Any:
    return jax.block_until_ready(ours(worlds))

  aim = ">= 5,000" if settings.is_cpu else ">= 3,000,000"
  if not settings.is_cpu:
    yield Row("pixels", _median([s for (s,) in _blocks([run_ours], settings)], settings.num_worlds), "frames/s", aim)
    return

  num_peer = 16
  peer = _make_renderer()
  seconds = [(a, b * settings.num_worlds / num_peer) for a, b in _blocks([run_ours, lambda: peer(num_peer)], settings)]
  yield Row("pixels", _median([s for s, _ in seconds], settings.num_worlds), "frames/s", aim)
  peer_rate = _median([s for _, s in seconds], settings.num_worlds)
  yield Row("  MuJoCo's renderer", peer_rate, "frames/s", "", os.environ.get("MUJOCO_GL", "osmesa"))
  yield Row("  ours / MuJoCo's renderer", _median_ratio(seconds), "x", ">= 10")


def act_stage(settings: Settings) -> Iterator[Row]:
  """Choosing actions: the paper's wide recurrent column on a batch of pictures."""
  agent, trainable, frozen, batch = _learner(settings)
  timestep = jax.jit(batch.init)(jax.random.key(0)).timestep
  state = actor_critic.initial_state(agent, settings.num_worlds)
  key = jax.random.key(1)

  def run() -> Any:
    return jax.block_until_ready(actor_critic.act(agent, trainable, frozen, state, timestep, key))

  yield Row("act", _median([s for (s,) in _blocks([run], settings)], settings.num_worlds), "steps/s", "")


def learn_stage(settings: Settings) -> Iterator[Row]:
  """One update from one unroll, pixels included."""
  agent, trainable, frozen, batch = _learner(settings)
  start = jax.jit(batch.init)(jax.random.key(0))
  recurrent = actor_critic.initial_state(agent, settings.num_worlds)
  _, _, played = unroll.unroll(agent, trainable, frozen, batch, start, recurrent, jax.random.key(1), _NUM_STEPS)
  optimizer_state = actor_critic.init(agent, trainable)

  def run() -> Any:
    return jax.block_until_ready(actor_critic.update(agent, trainable, frozen, optimizer_state, played))

  num = settings.num_worlds * _NUM_STEPS
  aim = ">= 3,500" if settings.is_cpu else ""
  yield Row("learn", _median([s for (s,) in _blocks([run], settings)], num), "steps/s", aim)


def play_stage(settings: Settings) -> Iterator[Row]:
  """Physics, pixels and policy without learning."""
  agent, trainable, frozen, batch = _learner(settings)
  start = jax.jit(batch.init)(jax.random.key(0))
  recurrent = actor_critic.initial_state(agent, settings.num_worlds)
  key = jax.random.key(1)

  def run() -> Any:
    played = unroll.unroll(agent, trainable, frozen, batch, start, recurrent, key, _NUM_STEPS)
    return jax.block_until_ready(played)

  num = settings.num_worlds * _NUM_STEPS
  aim = ">= 3,000" if settings.is_cpu else ">= 500,000"
  yield Row("play: physics + pixels + act", _median([s for (s,) in _blocks([run], settings)], num), "steps/s", aim)


def train_stage(settings: Settings) -> Iterator[Row]:
  """Training end to end from pixels, and what memory it takes as it goes on."""
  task = _task()
  batch = session.make_batch(task, settings.num_worlds)
  assert batch is not None
  trainable, frozen = partition.split(task.params, task.is_trainable)
  carry = [loop.init(task.agent, trainable, frozen, jax.random.key(0), batch=batch)]

  def run() -> Any:
    state, metrics, _ = loop.train_step(carry[0], agent=task.agent, batch=batch, num_steps=_NUM_STEPS)
    carry[0] = state
    return jax.block_until_ready(metrics)

  for _ in range(3):
    run()
  before, seconds, memory = int(carry[0].step), [], []
  for (block,) in _blocks([run], settings._replace(seconds=4 * settings.seconds)):
    seconds.append(block)
    memory.append(_resident_mb())
  num = settings.num_worlds * _NUM_STEPS
  aim = ">= 1,500" if settings.is_cpu else ">= 300,000"
  yield Row("train end to end, from pixels", _median(seconds, num), "steps/s", aim)
  steps = int(carry[0].step) - before
  third = len(memory) // 3
  growth = memory[-1] - memory[third]
  yield Row(
    "  memory gained", growth, "MB", "flat", f"over the last two thirds of {steps:,} steps; {memory[-1]:,.0f} MB"
  )


def bridge_stage(settings: Settings) -> Iterator[Row]:
  """The twin in a process of its own, through the bridge, as fast as it can, a picture in every step."""
  with server.launch(server.ServerConfig(task="reach/random"), timeout_s=180.0) as address:
    environment = client.connect(address)
    spec = environment.action_spec()
    rng = np.random.default_rng(0)
    environment.reset()

    def run() -> None:
      for _ in range(50):
        environment.step(rng.integers(0, 3, spec.shape).astype(spec.dtype))

    seconds = [s for (s,) in _blocks([run], settings)]
    environment.close()
  yield Row("twin through the bridge", _median(seconds, 50), "steps/s", ">= 250", "random actions, resets included")


SUITES: Mapping[str, Mapping[str, Stage]] = {
  "jaco": {
    "physics": physics_stage,
    "pixels": pixels_stage,
    "act": act_stage,
    "learn": learn_stage,
    "play": play_stage,
    "train": train_stage,
    "bridge": bridge_stage,
  },
}


def measure(suite: str, stages: Sequence[str], settings: Settings) -> Iterator[Row]:
  """Runs the stages (all where none is named) of a suite; yields their rows as they come.

  Raises:
    ValueError: unknown suite or stage.
  """
  if suite not in SUITES:
    raise ValueError(f"--suite={suite} is not one of {', '.join(SUITES)}")
  unknown = [stage for stage in stages if stage not in SUITES[suite]]
  if unknown:
    raise ValueError(f"--stages={unknown[0]} is not one of {', '.join(SUITES[suite])}")
  for name in stages or SUITES[suite]:
    yield from SUITES[suite][name](settings)


def table(rows: Sequence[Row]) -> str:
  """Markdown."""
  return curves.table(
    {r.stage: {"measured": _number(r.measured), "unit": r.unit, "aim": r.aim, "note": r.note} for r in rows}
  )


def _number(x: float) -> str:
  return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def _blocks(calls: Sequence[Callable[[], Any]], settings: Settings) -> list[tuple[float, ...]]:
  """Seconds of each call, in turn, for `settings.seconds` and at least five times; the first round is not counted."""
  for call in calls:
    call()
  blocks: list[tuple[float, ...]] = []
  started = time.perf_counter()
  while len(blocks) < 5 or time.perf_counter() - started < settings.seconds:
    block = []
    for call in calls:
      before = time.perf_counter()
      call()
      block.append(time.perf_counter() - before)
    blocks.append(tuple(block))
  return blocks


def _median(seconds: Sequence[float], num: int) -> float:
  """Things a second, for blocks of `num` things."""
  return num / statistics.median(seconds)


def _median_ratio(seconds: Sequence[tuple[float, ...]]) -> float:
  """How many times faster the first of a pair is than the second."""
  return statistics.median(theirs / ours for ours, theirs in seconds)


def _task() -> session.Task:
  return train.make_task(jaco_corl2017.get_config())


def _learner(settings: Settings) -> tuple[actor_critic.Agent, Any, Any, batch_lib.Batch]:
  """The paper's wide recurrent column on `jaco/reach/random`."""
  task = _task()
  trainable, frozen = partition.split(task.params, task.is_trainable)
  batch = session.make_batch(task, settings.num_worlds)
  assert batch is not None
  return task.agent, trainable, frozen, batch


def _make_renderer() -> Callable[[int], None]:
  """Draws the simulation's own primitives `n` times, the arm moved in between, with MuJoCo's renderer."""
  spec = mujoco.MjSpec.from_string(model.mjcf())
  spec.visual.quality.shadowsize = spec.visual.quality.offsamples = 0
  low, high = constants.TABLE_LOW_M, constants.TABLE_HIGH_M
  world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
  world.add_geom(type=box, pos=(*(low + high) / 2, -0.02), size=(*(high - low) / 2, 0.02))
  world.add_geom(type=box, pos=(0, 0, -0.8), size=(5, 5, 0.02))
  target = (constants.TARGET_LOW_M + constants.TARGET_HIGH_M) / 2
  world.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=target, size=(constants.TARGET_RADIUS_M, 0, 0))
  back = constants.CAMERA_POSITION_M - constants.CAMERA_LOOK_AT_M
  right = np.cross((0.0, 0.0, 1.0), back)
  view = world.add_camera(name="camera", pos=constants.CAMERA_POSITION_M, fovy=constants.CAMERA_FOV_Y_DEG)
  view.alt.type, view.alt.xyaxes = mujoco.mjtOrientation.mjORIENTATION_XYAXES, np.r_[right, np.cross(back, right)]
  arm = spec.compile()
  data = mujoco.MjData(arm)
  camera = twin.Camera(arm, constants.IMAGE_SIZE)
  rng = np.random.default_rng(0)

  def draw(n: int) -> None:
    for _ in range(n):
      data.qpos[:] = constants.HOME_RAD + 0.3 * rng.uniform(-1, 1, constants.NUM_JOINTS)
      camera.render(data)

  return draw


def _resident_mb() -> float:
  """Memory that this process holds now (Linux)."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(argv: Sequence[str]) -> None:
  """Measures, prints, writes."""
  del argv
  is_cpu = jax.default_backend() == "cpu"
  settings = Settings(_NUM_WORLDS.value or (128 if is_cpu else 4096), _SECONDS.value, is_cpu)
  out = pathlib.Path(binary.WORKDIR.value or "runs/benchmark")
  out.mkdir(parents=True, exist_ok=True)
  about: dict[str, object] = {"num_worlds": settings.num_worlds, "num_steps": _NUM_STEPS, "seconds": settings.seconds}
  about["provenance"] = run_directory.provenance()
  rows: list[Row] = []
  for row in measure(_SUITE.value, _STAGES.value, settings):
    print(f"{row.stage}: {_number(row.measured)} {row.unit}", file=sys.stderr, flush=True)
    rows.append(row)  # Written each time: a stage that fails takes none of the others with it.
    run_directory.write_json(out / f"{_SUITE.value}.json", {"rows": [r._asdict() for r in rows], **about})
  print(table(rows))
  print(f"wrote {out / _SUITE.value}.json")


if __name__ == "__main__":
  binary.run(main)
