"""A stand-in for the arm: a simulation other than the one in which columns learn.

C MuJoCo moves the true Jaco meshes (dm_control's Kinova model, Apache-2.0) and OpenGL draws them, so shapes, contacts
and pictures differ from the world of primitives and ray casting. In addition, the masses, friction, servos, latency,
sensors, camera, colours, light and shadows of `TwinConfig` differ. All of the reality gap is thus in one place. The
numbers are guesses, as large as a bench without calibration gives, unless a comment says otherwise. `arm.gap` has
smaller gaps, and parts of this one.
"""

import collections
import dataclasses
import importlib.util
import math
import os
import pathlib
import threading
import time
from typing import Any, NamedTuple

import mujoco
import numpy as np

from environments.arm import protocol, safety, viewpoint
from environments.jaco import constants, shape

Rgb = tuple[float, float, float]
_NUM_GRAINS = 2**18
_CELL_M = 0.008  # Half a pixel at the arm: the camera sees nothing finer.
_NUM_STACKS = 4  # Parts of a cylinder or ball from end to end: the camera does not see more.
# Directions towards the lights of `Camera.surfaces`, each time a red, a green and a blue one.
_LIGHTS = np.array(
  [[(1, 0, 0), (0, 1, 0), (0, 0, 1)], [(1, 0, 1), (0, 1, 1), (1, 1, 1)], [(-1, 0, 1), (0, -1, 1), (-1, 1, 1)]], float
)
_LIGHTS /= np.linalg.norm(_LIGHTS, axis=-1, keepdims=True)
_PALM = "hand/gripsite"
# The same shadows as in the simulation: from body to body, and their radius in metres.
_SHADOWS = (
  *((f"b_{a}", _PALM if b is None else f"b_{b}", radius_m) for a, b, radius_m in shape.SHADOWS),
  ("target", "target", constants.TARGET_RADIUS_M),
)
_SHADOW_HEIGHT_M, _SHADOW_THICKNESS_M = 1e-3, 1e-4  # Above the table's top.


@dataclasses.dataclass(frozen=True)
class TwinConfig:
  """All differences between twin and simulation. Scales multiply dm_control's numbers."""

  # Time
  is_real_time: bool = False  # True: wall clock; False: as fast as possible, with all times simulated.
  physics_dt_s: float = 0.005
  # From a command to the motors. A twin has the nearest whole number of physics steps. Its gate allows for the same
  # latency.
  action_latency_s: float = 0.04

  # Body
  mass_scale: float = 1.15
  friction_scale: float = 1.6  # Dry friction of the joints.
  damping_scale: float = 2.0
  servo_gain_scale: float = 0.5
  servo_speed_scale: float = 0.95  # The speed that is reached, relative to the commanded one.
  gravity_compensation: float = 0.9  # Share of the weight that the arm's firmware carries.

  # Sensors: standard deviations of independent Gaussian noise on every reading.
  qpos_noise_rad: float = 0.002
  qvel_noise_rad_s: float = 0.01
  target_noise_m: float = 0.002
  pixel_noise: float = 3.0  # Grey levels out of 255.

  # Camera, moved from the simulation's: position in the base frame, rotation in the camera's axes (right, up, back).
  camera_shift_m: tuple[float, float, float] = (0.02, -0.025, 0.02)
  camera_rotation_deg: tuple[float, float, float] = (-1.0, 1.3, 1.0)
  camera_fov_shift_deg: float = 1.0

  # Looks: colours and light, each channel in [0, 1].
  arm_dark_rgb: Rgb = (0.16, 0.16, 0.19)
  arm_light_rgb: Rgb = (0.62, 0.60, 0.58)
  table_rgb: Rgb = (0.56, 0.47, 0.37)
  floor_rgb: Rgb = (0.33, 0.36, 0.38)
  target_rgb: Rgb = (0.85, 0.13, 0.10)
  post_rgb: Rgb = (0.62, 0.60, 0.58)
  light_position_m: tuple[float, float, float] = (0.2, 1.6, 2.2)
  light_rgb: Rgb = (0.72, 0.70, 0.62)
  ambient_rgb: Rgb = (0.45, 0.45, 0.50)
  specular: float = 0.2  # Of the light, in highlights.
  shadow: float = 0.0  # Share of the light that arm and target block on the table.

  def __post_init__(self) -> None:
    noises = ("qpos_noise_rad", "qvel_noise_rad_s", "target_noise_m", "pixel_noise")
    for name in ("action_latency_s", "friction_scale", "damping_scale", *noises):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f"TwinConfig: {name}={getattr(self, name)} must be 0 or more, and finite")
    for name in ("physics_dt_s", "mass_scale", "servo_gain_scale", "servo_speed_scale"):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(f"TwinConfig: {name}={getattr(self, name)} must be above 0, and finite")
    colors = [field.name for field in dataclasses.fields(self) if field.name.endswith("_rgb")]
    for name in ("shadow", "specular", *colors):
      if not np.all((np.asarray(getattr(self, name)) >= 0) & (np.asarray(getattr(self, name)) <= 1)):
        raise ValueError(f"TwinConfig: {name}={getattr(self, name)} must be from 0 to 1")
    for name in ("gravity_compensation", "camera_shift_m", "camera_rotation_deg", "light_position_m"):
      if not np.isfinite(getattr(self, name)).all():
        raise ValueError(f"TwinConfig: {name}={getattr(self, name)} must be finite")
    if self.light_position_m[2] <= 0:
      raise ValueError(f"TwinConfig: light_position_m={self.light_position_m} must be above the table's foot, z > 0")
    if not 0 < self.viewpoint.fov_y_deg < 180:
      raise ValueError(
        f"TwinConfig: camera_fov_shift_deg={self.camera_fov_shift_deg} makes an angle of view of "
        f"{self.viewpoint.fov_y_deg:g} degrees; it must be between 0 and 180"
      )

  lock = None  # There may be many.

  @property
  def viewpoint(self) -> viewpoint.Viewpoint:
    """The viewpoint of its camera."""
    return viewpoint.Viewpoint(self.camera_shift_m, self.camera_rotation_deg, self.camera_fov_shift_deg)

  def limits(self) -> protocol.Limits:
    return safety.jaco_limits(reaction_s=safety.reaction_s(self.action_latency_s))

  def make(self) -> "Twin":
    return Twin(self)

  def make_camera(self) -> "TwinCamera":
    return TwinCamera(self)


class Twin:
  """A `protocol.Driver` of a simulated arm with the nine joints of `environments.jaco.constants`.

  On the wall clock, whichever of two threads calls advances the physics to the present.
  """

  def __init__(self, config: TwinConfig):
    self._config = config
    self._model = build_model(config)
    self._data = mujoco.MjData(self._model)
    self._pending: collections.deque[tuple[float, np.ndarray]] = collections.deque()  # (due time, velocities)
    self._rng = np.random.default_rng(0)
    self._lock = threading.Lock()
    self.reset(constants.HOME_RAD, seed=0)

  def now_s(self) -> float:
    """Wall time, or simulated time."""
    return time.monotonic() if self._config.is_real_time else self._data.time

  def reset(self, qpos_rad: np.ndarray, *, seed: int) -> bool:
    """Puts the arm at rest at `qpos_rad`, `[9]`, without the time that a motion would take. `seed` starts the noise."""
    with self._lock:
      now_s, target = self.now_s(), self._data.mocap_pos.copy()
      mujoco.mj_resetData(self._model, self._data)
      self._data.qpos[:] = qpos_rad
      self._data.mocap_pos[:] = target
      self._data.time = now_s
      self._pending.clear()
      self._rng = np.random.default_rng(seed)
    return True

  def place_target(self, target_in_base_m: np.ndarray) -> None:
    with self._lock:
      place_target(self._model, self._data, target_in_base_m)

  def command(self, velocity_rad_s: np.ndarray) -> None:
    """Takes joint velocities `[9]`, which reach the motors `action_latency_s` later."""
    velocity = self._config.servo_speed_scale * np.asarray(velocity_rad_s, np.float64)
    with self._lock:
      now_s = self.now_s()
      self._advance(now_s)
      self._pending.append((now_s + self._config.action_latency_s, velocity))

  def stop(self) -> None:
    """Zero velocities, as late as any command. A twin that stopped faster than an arm would flatter the watchdog."""
    self.command(np.zeros(constants.NUM_JOINTS))

  def wait(self, until_s: float) -> None:
    """Simulates until `until_s`."""
    with self._lock:
      self._advance(until_s)

  def read(self) -> protocol.Reading:
    """Noisy joints and target, and the scene for the camera: the true ones, and the place where its noise starts."""
    with self._lock:
      self._advance(self.now_s())
      config, normal = self._config, self._rng.standard_normal(2 * constants.NUM_JOINTS + 3)
      return protocol.Reading(
        time_s=self._data.time,
        qpos_rad=self._data.qpos + config.qpos_noise_rad * normal[: constants.NUM_JOINTS],
        qvel_rad_s=self._data.qvel + config.qvel_noise_rad_s * normal[constants.NUM_JOINTS : -3],
        target_in_base_m=self._data.mocap_pos[0] + config.target_noise_m * normal[-3:],
        scene=np.concatenate([self._data.qpos, self._data.mocap_pos[0], [self._rng.random()]]),
      )

  def close(self) -> None:
    pass

  def _advance(self, until_s: float) -> None:
    """Simulates up to `until_s`, and gives each command to the motors when it is due."""
    dt_s = self._config.physics_dt_s
    while (num_steps := round((until_s - self._data.time) / dt_s)) > 0:
      if self._pending:
        num_early = round((self._pending[0][0] - self._data.time) / dt_s)
        if num_early <= 0:
          self._data.ctrl[:] = self._pending.popleft()[1]
          continue
        num_steps = min(num_steps, num_early)
      mujoco.mj_step(self._model, self._data, num_steps)


class TwinCamera:
  """A `protocol.Camera` that draws the scenes of a twin's readings, noisily."""

  def __init__(self, config: TwinConfig):
    self._model = build_model(config)
    _coarsen(self._model)
    self._data = mujoco.MjData(self._model)
    self._camera = Camera(self._model, constants.IMAGE_SIZE, config)
    # Pixels take their noise from a strip drawn once, each picture from another place, at a fifth of the
    # cost of drawing.
    num_pixels = 3 * constants.IMAGE_SIZE**2
    grains = config.pixel_noise * np.random.default_rng(0).standard_normal(_NUM_GRAINS + num_pixels)
    self._grains = np.round(grains).astype(np.int16)

  def image(self, reading: protocol.Reading) -> np.ndarray:
    """Noisy picture, uint8 `[64, 64, 3]`."""
    assert reading.scene is not None
    self._data.qpos[:], target = np.split(reading.scene[:-1], [constants.NUM_JOINTS])
    place_target(self._model, self._data, target)
    pixels, start = self._camera.render(self._data), int(reading.scene[-1] * _NUM_GRAINS)
    grains = self._grains[start : start + pixels.size].reshape(pixels.shape)
    return np.clip(pixels + grains, 0, 255).astype(np.uint8)

  def close(self) -> None:
    self._camera.close()


def _coarsen(model: mujoco.MjModel) -> None:
  """Leaves one vertex per cell of `_CELL_M` in meshes: half as many triangles, which determine the drawing cost."""
  model.vis.quality.numstacks = _NUM_STACKS
  for mesh in range(model.nmesh):
    start, first = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
    cells = model.mesh_vert[start : start + model.mesh_vertnum[mesh]] // _CELL_M
    _, kept, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = kept[cell.ravel()][model.mesh_face[first : first + model.mesh_facenum[mesh]]]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]  # The other faces have become lines and points.
    model.mesh_facenum[mesh] = len(faces)
    model.mesh_face[first : first + len(faces)] = model.mesh_facenormal[first : first + len(faces)] = faces


class Surfaces(NamedTuple):
  """What each pixel of a picture shows."""

  facing: np.ndarray  # [H, W, 9] float32, how much a surface faces each of nine lights, 0 to 1.
  geoms: np.ndarray  # [H, W] int32, numbers of the model's geoms; -1: none
  depth_m: np.ndarray  # [H, W] float32, along the camera's axis


class Camera:
  """OpenGL pictures of a model's first camera, without antialiasing and OpenGL's shadows (three times as fast).

  With a twin's `config`, shadows lie on its table as in the simulation, as dark flat geoms.

  `MUJOCO_GL` chooses the library, osmesa (the default here) or egl. It is read here, not through `mujoco.Renderer`. The
  latter decides when mujoco is imported, and has no default without a screen.
  """

  def __init__(self, model: mujoco.MjModel, size: int, config: TwinConfig | None = None):
    self._model, self._config = model, config
    self._context = _gl_context(size)
    self._context.make_current()
    self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)
    self._scene = mujoco.MjvScene(model, maxgeom=100)
    self._scene.flags[:] = 0
    self._scene.flags[mujoco.mjtRndFlag.mjRND_CULL_FACE] = 1
    self._view = mujoco.MjvCamera()
    self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    self._rectangle = mujoco.MjrRect(0, 0, size, size)
    self._pixels = np.empty((size, size, 3), np.uint8)

  def render(self, data: mujoco.MjData) -> np.ndarray:
    """The scene at `data.qpos` and `data.mocap_pos`, uint8 `[H, W, 3]`."""
    self._update(data)
    if self._config and self._config.shadow:
      _add_shadows(self._scene, self._config, data)
    return self._draw()

  def surfaces(self, data: mujoco.MjData) -> "Surfaces":
    """What each pixel shows in the picture that `render` makes, independent of colours and light."""
    self._update(data)
    for geom in self._scene.geoms[: self._scene.ngeom]:
      geom.rgba[:], geom.specular, geom.emission, geom.segid = 1.0, 0.0, 0.0, geom.objid
    depth, facing = np.empty(self._pixels.shape[:2], np.float32), []
    for lights in _LIGHTS:
      self._scene.nlight = len(lights)
      for light, towards, rgb in zip(self._scene.lights, lights, np.eye(3), strict=False):
        light.type, light.dir[:], light.diffuse[:] = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, -towards, rgb
        light.ambient[:] = light.specular[:] = light.headlight = light.castshadow = 0
      facing.append(self._draw(depth) / np.float32(255.0))
    near_m, far_m = self._clipping_m()
    for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
      self._scene.flags[flag] = 1
    geoms = self._draw()[..., 0].astype(np.int32) - 1  # A scene has fewer than 255 geoms.
    for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
      self._scene.flags[flag] = 0
    return Surfaces(np.concatenate(facing, axis=-1), geoms, near_m / (1.0 - depth[::-1] * (1.0 - near_m / far_m)))

  def _update(self, data: mujoco.MjData) -> None:
    mujoco.mj_kinematics(self._model, data)
    mujoco.mj_camlight(self._model, data)
    mujoco.mjv_updateScene(
      self._model, data, mujoco.MjvOption(), None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
    )

  def _draw(self, depth: np.ndarray | None = None) -> np.ndarray:
    self._context.make_current()
    mujoco.mjr_render(self._rectangle, self._scene, self._renderer)
    mujoco.mjr_readPixels(self._pixels, depth, self._rectangle, self._renderer)
    return self._pixels[::-1].copy()  # OpenGL's rows go up.

  def _clipping_m(self) -> tuple[float, float]:
    clip, extent_m = self._model.vis.map, self._model.stat.extent
    return clip.znear * extent_m, clip.zfar * extent_m

  def close(self) -> None:
    self._renderer.free()
    self._context.free()


def picture(config: TwinConfig, qpos_rad: np.ndarray, target_in_base_m: np.ndarray, *, size: int) -> np.ndarray:
  """What the camera sees of a pose, `[9]` and `[3]`, at any size and without noise: uint8 `[size, size, 3]`."""
  model = build_model(config, image_size=size)
  data = mujoco.MjData(model)
  data.qpos[:] = qpos_rad
  place_target(model, data, target_in_base_m)
  camera = Camera(model, size, config)
  pixels = camera.render(data)
  camera.close()
  return pixels


def place_target(model: mujoco.MjModel, data: mujoco.MjData, target_in_base_m: np.ndarray) -> None:
  """Puts the ball at `[3]`. Its post reaches from there to the table at any height."""
  data.mocap_pos[0] = target_in_base_m
  half_m, post = (target_in_base_m[2] - constants.TABLE_HEIGHT_M) / 2, model.geom("post")
  post.size[1], post.pos[2] = half_m, -half_m


def build_model(config: TwinConfig, *, image_size: int = constants.IMAGE_SIZE) -> mujoco.MjModel:
  """The true arm and hand on a table, with a red ball as target and a camera, as `config` describes them."""
  folder = _kinova_folder()
  spec = mujoco.MjSpec.from_file(str(folder / "jaco_arm.xml"))
  spec.attach(mujoco.MjSpec.from_file(str(folder / "jaco_hand.xml")), site=spec.site("wristsite"), prefix="hand/")
  spec.option.timestep = config.physics_dt_s
  spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
  spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET  # It would set the clock back.
  for body in spec.bodies[1:]:
    body.gravcomp = config.gravity_compensation
  for joint, gain, torque in zip(spec.joints, constants.VELOCITY_GAIN_NM_S, constants.MAX_TORQUE_NM, strict=True):
    actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_velocity(kv=gain * config.servo_gain_scale)
    actuator.forcelimited, actuator.forcerange = True, (-torque, torque)
  _add_scene(spec, config)
  spec.visual.quality.offsamples = spec.visual.quality.shadowsize = 0
  spec.visual.quality.numslices, spec.visual.quality.numstacks, spec.visual.quality.numquads = 16, 10, 1
  spec.visual.global_.offwidth = spec.visual.global_.offheight = image_size
  model = spec.compile()
  model.body_mass *= config.mass_scale
  model.body_inertia *= config.mass_scale
  model.dof_frictionloss *= config.friction_scale
  model.dof_damping *= config.damping_scale
  mujoco.mj_setConst(model, mujoco.MjData(model))
  return model


def _add_scene(spec: mujoco.MjSpec, config: TwinConfig) -> None:
  """Table, floor, target, light, camera and colours."""
  for name, rgb in (("dark_gray", config.arm_dark_rgb), ("light_gray", config.arm_light_rgb)):
    spec.material(name).rgba = (*rgb, 1.0)
  world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
  low, high, half_thickness = constants.TABLE_LOW_M, constants.TABLE_HIGH_M, 0.02
  world.add_geom(
    name="table",
    type=box,
    pos=(*(low + high) / 2, constants.TABLE_HEIGHT_M - half_thickness),
    size=(*(high - low) / 2, half_thickness),
    rgba=(*config.table_rgb, 1.0),
  )
  world.add_geom(name="floor", type=box, pos=(0, 0, -0.8), size=(20, 20, 0.02), rgba=(*config.floor_rgb, 1.0))
  target, untouched = world.add_body(name="target", mocap=True), {"contype": 0, "conaffinity": 0}
  ball, post = mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CYLINDER
  target.add_geom(
    name="target", type=ball, size=(constants.TARGET_RADIUS_M, 0, 0), rgba=(*config.target_rgb, 1.0), **untouched
  )
  depth_m = constants.TABLE_HEIGHT_M - constants.TARGET_HEIGHT_M
  target.add_geom(
    name="post", type=post, fromto=(0, 0, depth_m, 0, 0, 0), size=(constants.POST_RADIUS_M, 0, 0),
    rgba=(*config.post_rgb, 1.0), **untouched,
  )  # fmt: skip
  spec.visual.headlight.active = 0
  light = np.array(config.light_position_m)
  world.add_light(
    pos=light, dir=-light / np.linalg.norm(light), type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    diffuse=config.light_rgb, ambient=config.ambient_rgb, specular=(config.specular,) * 3, castshadow=False,
  )  # fmt: skip
  view = config.viewpoint
  world.add_camera(
    name="camera",
    pos=view.position_m,
    quat=view.quaternion,
    fovy=view.fov_y_deg,
  )


def _add_shadows(scene: mujoco.MjvScene, config: TwinConfig, data: mujoco.MjData) -> None:
  """Projects the segments of `_SHADOWS` along the light onto the table, as flat capsules in its darkened colour."""
  light = np.array(config.light_position_m) / np.linalg.norm(config.light_position_m)
  ambient, direct = np.array(config.ambient_rgb), light[2] * np.array(config.light_rgb)
  dark = np.array(config.table_rgb) * (ambient + (1.0 - config.shadow) * direct) / (ambient + direct)
  for start, end, radius_m in _SHADOWS:
    points = [(data.site if name == _PALM else data.body)(name).xpos for name in (start, end)]
    ends = _on_table(*(point[:2] - light[:2] / light[2] * (point[2] - constants.TABLE_HEIGHT_M) for point in points))
    if ends is None:
      continue
    geom = scene.geoms[scene.ngeom]
    scene.ngeom += 1
    capsule, height_m = mujoco.mjtGeom.mjGEOM_CAPSULE, constants.TABLE_HEIGHT_M + _SHADOW_HEIGHT_M
    mujoco.mjv_initGeom(geom, capsule, np.zeros(3), np.zeros(3), np.eye(3).ravel(), np.array([*dark, 1.0], np.float32))
    mujoco.mjv_connector(geom, capsule, radius_m, *(np.array([*point, height_m]) for point in ends))
    geom.mat[2] *= _SHADOW_THICKNESS_M / radius_m


def _on_table(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
  """The part of a segment, `[2]` to `[2]`, x y in metres, that lies on the table; None if no part does."""
  way = np.where(np.abs(end - start) > 1e-6, end - start, 1e-6)
  shares = np.sort([(constants.TABLE_LOW_M - start) / way, (constants.TABLE_HIGH_M - start) / way], axis=0)
  first, last = max(0.0, *shares[0]), min(1.0, *shares[1])
  return (start + first * way, start + last * way) if first < last else None


def _kinova_folder() -> pathlib.Path:
  """The folder of dm_control's Kinova model. The package is found, not imported: only its files are needed."""
  package = importlib.util.find_spec("dm_control")
  if package is None or package.origin is None:
    raise protocol.BridgeError(
      'the twin needs dm_control, for meshes of the arm: pip install "progressive-robots[twin]"'
    )
  return pathlib.Path(package.origin).parent / "third_party" / "kinova"


def _gl_context(size: int) -> Any:
  """An OpenGL context that needs no screen. The error says what to install.

  OSMesa draws on one thread unless `LP_NUM_THREADS` says otherwise. At this size more threads take longer, and on a
  machine with two cores the other one belongs to the learner.
  """
  library = os.environ.get("MUJOCO_GL", "osmesa")
  os.environ.setdefault("LP_NUM_THREADS", "0")
  try:
    if library == "egl":
      from mujoco import egl as library_module
    else:
      from mujoco import osmesa as library_module
    return library_module.GLContext(size, size)
  except (ImportError, AttributeError, RuntimeError) as error:
    raise protocol.BridgeError(
      f"the twin's camera found no OpenGL through {library} ({error}): "
      "apt-get install libosmesa6 and set MUJOCO_GL=osmesa, or set MUJOCO_GL=egl where there is a GPU"
    ) from error
