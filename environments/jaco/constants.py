"""The numbers of the Kinova Jaco (6 joints, 3 fingers) and of the scene it stands in.

The base frame is the world: metres, x y z, origin where the base stands on the table, z up, the work area on +x. Body k
is attached to its parent by a fixed offset and turns about its own z axis. Kinematics, masses, inertias, armature,
damping, friction and limits come from dm_control (third_party/kinova/jaco_arm.xml and jaco_hand.xml, Apache-2.0,
compiled from its meshes). Torques and velocity gains come from its kinova/jaco_arm.py and jaco_hand.py, which cite
Kinova's data sheet. Quaternions are w x y z.
"""

from typing import NamedTuple

import numpy as np

NUM_ARM_JOINTS = 6
NUM_JOINTS = 9  # Six arm joints, three fingers.

# --- Kinematic chain: bodies 0 base, 1..6 links (6 carries the hand), 7..9 fingers, which hang on body 6. ---
BODY_NAMES = ("base", "link_1", "link_2", "link_3", "link_4", "link_5", "link_6", "finger_1", "finger_2", "finger_3")
_R = np.sqrt(0.5)
BODY_OFFSET_M = np.array(  # [10, 3] in the parent's frame
  [
    [0.0, 0.0, 0.0],
    [0.0, 0.0, 0.15675],
    [0.0, 0.0016, -0.11875],
    [0.0, -0.41, 0.0],
    [0.0, 0.2073, -0.0114],
    [0.0, -0.03703, -0.06414],
    [0.0, -0.03703, -0.06414],
    [0.00279, 0.03126, -0.11467],
    [-0.02226, -0.02707, -0.11482],
    [0.02226, -0.02707, -0.11482],
  ]
)
BODY_QUATERNION = np.array(  # [10, 4] in the parent's frame
  [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, -_R, _R],
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, -_R, _R],
    [0.0, 0.0, 0.5, np.sqrt(0.75)],
    [0.0, 0.0, 0.5, np.sqrt(0.75)],
    [0.24396, -0.63159, -0.38818, 0.62521],
    [0.601679, -0.254671, 0.659653, -0.37146],
    [0.659653, -0.37146, 0.601679, -0.254671],
  ]
)
PALM_IN_LINK_6_M = np.array([0.0, -0.0001, -0.159])  # dm_control's grip site: the tool centre between the fingers.

# --- Dynamics ---
BODY_MASS_KG = np.array([0.718306, 0.643205, 1.16915, 0.673443, 0.221432, 0.221432, 0.54719] + [0.0387859] * 3)
_WRIST_COM, _FINGER_COM = [0.0, -0.01005, -0.036957], [0.032921, -0.0077755, 0.0]
BODY_COM_M = np.array(  # [10, 3] centre of mass in the body's frame
  [
    [0.0, -0.0005981, 0.081772],
    [0.0, -0.01064, -0.066713],
    [0.0, -0.20476, -0.020124],
    [0.0, 0.082974, -0.017483],
    _WRIST_COM,
    _WRIST_COM,
    [0.0, -0.0044507, -0.057921],
    _FINGER_COM,
    _FINGER_COM,
    _FINGER_COM,
  ]
)
_WRIST_INERTIA = [1.7455e-4, 1.6066e-4, 1.188e-4, 0.0, 0.0, -3.6235e-5]
_FINGER_INERTIA = [2.7041e-6, 2.1292e-5, 2.1086e-5, -1.0061e-7, 0.0, 0.0]
BODY_INERTIA_KG_M2 = np.array(  # [10, 6] xx yy zz xy xz yz about the centre of mass, axes of the body's frame
  [
    [1.5785e-3, 1.5783e-3, 5.8606e-4, 3.3981e-7, -3.8194e-6, -1.9432e-5],
    [1.6257e-3, 1.6758e-3, 4.6735e-4, 0.0, 0.0, -2.2467e-4],
    [2.4989e-2, 5.3519e-4, 2.5281e-2, 4.4409e-6, 0.0, 1.113e-6],
    [4.0907e-3, 3.0916e-4, 4.1934e-3, 0.0, 0.0, -1.5596e-4],
    _WRIST_INERTIA,
    _WRIST_INERTIA,
    [7.4716e-4, 6.512e-4, 5.2952e-4, -6.8073e-7, 7.5583e-7, -2.6041e-5],
    _FINGER_INERTIA,
    _FINGER_INERTIA,
    _FINGER_INERTIA,
  ]
)
ARMATURE_KG_M2 = np.array([4.0] * 3 + [2.0] * 3 + [0.1] * 3)
DAMPING_NM_S = np.array([0.01] * 6 + [0.75] * 3)
FRICTION_LOSS_NM = np.array([2.0] * 3 + [1.0] * 3 + [0.1] * 3)
VELOCITY_GAIN_NM_S = np.array([500.0] * 6 + [10.0] * 3)  # "A very rough estimate", says dm_control.
MAX_TORQUE_NM = np.array([30.5] * 3 + [6.8] * 3 + [1.0] * 3)

# --- Limits ---
# Kinova's firmware limits large joints to 36 and small ones to 48 degrees a second. The fingers could move faster (5
# rad/s in dm_control). We chose to limit them to the speed of the small joints.
MAX_VELOCITY_RAD_S = np.deg2rad(np.array([36.0] * 3 + [48.0] * 6))
# Commanded speeds: about half of Kinova's limits. We chose them, since the papers give none. The servo overshoots its
# command by up to 5 % when other joints brake.
COMMAND_RAD_S = np.array([0.3] * 3 + [0.4] * 6)
# Only joints 2 and 3 and the fingers are limited; the other joints can turn endlessly.
JOINT_LOW_RAD = np.array([-np.inf, 0.820305, 0.331613, -np.inf, -np.inf, -np.inf, 0.15, 0.15, 0.15])
JOINT_HIGH_RAD = np.array([np.inf, 5.462881, 5.951573, np.inf, np.inf, np.inf, 1.35, 1.35, 1.35])
IS_LIMITED = np.isfinite(JOINT_LOW_RAD)

# --- Timing ---
CONTROL_DT_S = 0.1
PHYSICS_DT_S = 0.01
NUM_SUBSTEPS = 10

# --- Tasks: our choices where the papers give no number ---
# The elbow is up, the hand points down, and the palm is 25 cm above the table, over the middle of the target area.
HOME_RAD = np.array([3.01, 3.68, 1.551, -0.329, 1.187, 2.641, 0.75, 0.75, 0.75])
TARGET_RADIUS_M = 0.04  # A red ball on a thin post that stops nothing.
POST_RADIUS_M = 0.008
# Height of the ball's centre. The hand hangs 10 cm below the palm. With the ball on the table itself, only a thin shell
# around it pays, and contact with the table ends many episodes that come close.
TARGET_HEIGHT_M = 0.20
TARGET_LOW_M = np.array([0.30, -0.20, TARGET_HEIGHT_M])  # Centre of the ball; 30 cm x 40 cm, as in the paper.
TARGET_HIGH_M = np.array([0.60, 0.20, TARGET_HEIGHT_M])
REACH_DISTANCE_M = 0.10  # From the palm to the centre of the ball.
NUM_EPISODE_STEPS = 50
TABLE_HEIGHT_M = 0.0
JOINT_LIMIT_MARGIN_RAD = 0.05  # An episode ends at this distance before the stops of joints 2 and 3.

# --- Scene: what the camera sees; the twin builds its own scene from the same numbers ---
TABLE_LOW_M = np.array([-0.22, -0.45])  # x y corners of the table's top
TABLE_HIGH_M = np.array([0.78, 0.45])
CAMERA_POSITION_M = np.array([1.20, 0.62, 0.90])
CAMERA_LOOK_AT_M = np.array([0.28, 0.0, 0.24])
CAMERA_FOV_Y_DEG = 44.0
IMAGE_SIZE = 64
LIGHT_DIRECTION = np.array([0.35, 0.25, 0.9])  # Towards the light; normalised where it is used.
AMBIENT = 0.45  # Share of light that comes from all directions.
COLORS = np.array(  # [7, 3] RGB in [0, 1] by material
  [
    [0.16, 0.16, 0.17],  # dark parts of the arm
    [0.72, 0.72, 0.74],  # its rings and fingers
    [0.90, 0.08, 0.06],  # target
    [0.80, 0.66, 0.47],  # two kinds of plank
    [0.74, 0.60, 0.42],
    [0.50, 0.37, 0.24],  # border of the table
    [0.42, 0.47, 0.52],  # floor
  ]
)


class Change(NamedTuple):
  """How a scene differs from the nominal one."""

  camera_deg: float = 0.0  # Turns the camera about the vertical through the point that it looks at.
  hue_deg: float = 0.0  # Turns all colours about the axis of greys.


# Fixed changes with the names in Rusu et al. 2017, figure 6. The figure gives no magnitudes: we chose all of them.
CHANGES = {
  "subtle_perspective": Change(camera_deg=20.0),
  "significant_perspective": Change(camera_deg=30.0),
  "subtle_color": Change(hue_deg=20.0),
  "significant_color": Change(hue_deg=-120.0),  # Red becomes blue.
}
