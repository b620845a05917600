"""The arm as a MuJoCo model: nine hinges with velocity servos, and nothing that collides.

Servo: torque = clip(gain * (command - velocity), +-max torque). Gravity is off: the real arm's controller compensates
it, and for a rigid arm perfect compensation equals no gravity. Contacts are off: `environments.jaco.contact` finds them
from geometry. The integrator is implicitfast at 10 ms (mean palm error 2.2 mm against 2 ms steps over 5 s).
"""

import mujoco
import numpy as np

from environments.jaco import constants, shape


def _numbers(values: np.ndarray) -> str:
  return " ".join(f"{value:.9g}" for value in np.ravel(values))


def _body(index: int) -> str:
  """MJCF of a body with its joint, inertia and geoms, left open for its children."""
  joint = ""
  if index > 0:
    j = index - 1
    limits = ""
    if constants.IS_LIMITED[j]:
      limits = f' limited="true" range="{constants.JOINT_LOW_RAD[j]} {constants.JOINT_HIGH_RAD[j]}"'
    joint = (
      f'<joint name="joint_{index}" axis="0 0 1" armature="{constants.ARMATURE_KG_M2[j]}"'
      f' damping="{constants.DAMPING_NM_S[j]}" frictionloss="{constants.FRICTION_LOSS_NM[j]}"{limits}/>'
    )
  named = [(f"link_{i}", s) for i, s in enumerate(shape.LINKS)] + [(f"ring_{i}", s) for i, s in enumerate(shape.RINGS)]
  geoms = "".join(
    f'<geom name="{name}" type="{"cylinder" if s.is_flat else "capsule"}" size="{s.radius}"'
    f' fromto="{_numbers(np.array([s.start, s.end]))}" mass="0" contype="0" conaffinity="0"/>'
    for name, s in named
    if s.body == index
  )
  return (
    f'<body name="{constants.BODY_NAMES[index]}" pos="{_numbers(constants.BODY_OFFSET_M[index])}"'
    f' quat="{_numbers(constants.BODY_QUATERNION[index])}">'
    f'<inertial pos="{_numbers(constants.BODY_COM_M[index])}" mass="{constants.BODY_MASS_KG[index]}"'
    f' fullinertia="{_numbers(constants.BODY_INERTIA_KG_M2[index])}"/>{joint}{geoms}'
  )


def mjcf() -> str:
  """The model as MJCF."""
  fingers = "".join(_body(index) + "</body>" for index in (7, 8, 9))
  arm = "".join(_body(index) for index in range(7)) + fingers + "</body>" * 7
  actuators = "".join(
    f'<velocity joint="joint_{j + 1}" kv="{constants.VELOCITY_GAIN_NM_S[j]}" ctrllimited="true"'
    f' ctrlrange="{-constants.MAX_VELOCITY_RAD_S[j]} {constants.MAX_VELOCITY_RAD_S[j]}" forcelimited="true"'
    f' forcerange="{-constants.MAX_TORQUE_NM[j]} {constants.MAX_TORQUE_NM[j]}"/>'
    for j in range(constants.NUM_JOINTS)
  )
  return (
    '<mujoco model="jaco"><compiler angle="radian" autolimits="false"/>'
    f'<option timestep="{constants.PHYSICS_DT_S}" integrator="implicitfast" gravity="0 0 0">'
    '<flag contact="disable"/></option>'
    f"<worldbody>{arm}</worldbody><actuator>{actuators}</actuator></mujoco>"
  )


def compile_model() -> mujoco.MjModel:
  """The compiled model; `qpos`, `qvel` and `ctrl` are in the order of `constants`."""
  return mujoco.MjModel.from_xml_string(mjcf())
