"""An imitation of kinova-ros's node, with a queue as in its README: `python fake_kinova_ros.py STATE PACKAGES`.

A point in the queue is a velocity for 10 ms. An empty queue is rest. A stop empties it, and only a start ends the stop.
A test sees the file STATE, ten numbers: six angles in degrees, how many points wait, how many waited at most, whether
the node is stopped, how many messages came.
"""

import sys
import threading
import time

import numpy as np

QUEUED, MOST, STOPPED, CAME = range(6, 10)


def main(path, packages):
  """Runs until it is killed."""
  sys.path.append(packages)
  import rospy
  from genpy import dynamic
  from sensor_msgs.msg import JointState

  def message(name, text):
    return dynamic.generate_dynamic(name, text)[name]

  state, queue, lock = np.memmap(path, np.float64, "r+", shape=(10,)), [], threading.Lock()
  state[STOPPED] = 0
  velocity = message("kinova_msgs/JointVelocity", "".join(f"float32 joint{i}\n" for i in range(1, 8)))
  empty = message("kinova_msgs/Empty", "")

  def take(wanted):
    with lock:
      state[CAME] += 1
      if not state[STOPPED]:
        queue.append([getattr(wanted, f"joint{i}") for i in range(1, 7)])
        state[QUEUED], state[MOST] = len(queue), max(state[MOST], len(queue))

  def service(name, is_stopped):
    answer = message(f"kinova_msgs/{name}Response", f"string {name}_result")

    def serve(_):
      with lock:
        queue.clear()
        state[QUEUED], state[STOPPED] = 0, is_stopped
      return answer(f"Arm {name}")

    kind = type(
      name, (), dict(_type=f"kinova_msgs/{name}", _md5sum="0" * 32, _request_class=empty, _response_class=answer)
    )
    rospy.Service(f"/j2n6s300_driver/in/{name}", kind, serve)

  rospy.init_node("j2n6s300_driver", disable_signals=True)
  publisher = rospy.Publisher("/j2n6s300_driver/out/joint_state", JointState, queue_size=2)
  rospy.Subscriber("/j2n6s300_driver/in/joint_velocity", velocity, take, queue_size=1)
  service("stop", 1)
  service("start", 0)
  names = [f"j2n6s300_joint_{i}" for i in range(1, 7)] + [
    f"j2n6s300_joint_finger{tip}_{i}" for tip in ("", "_tip") for i in (1, 2, 3)
  ]
  print("ready", flush=True)
  due_s = time.monotonic()
  for count in range(sys.maxsize):
    with lock:
      if queue:
        state[:6] += 0.01 * np.array(queue.pop(0))
        state[QUEUED] = len(queue)
    if count % 5 == 0:
      shown = JointState(name=names, position=[*np.deg2rad(state[:6]), *np.full(3, 0.5), *np.zeros(3)])
      shown.header.stamp = rospy.Time.now()
      publisher.publish(shown)
    due_s += 0.01
    time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
  main(*sys.argv[1:])
