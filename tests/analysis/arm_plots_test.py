"""The summary and the figure of an arm's recording, against numbers worked by hand."""

import numpy as np

from analysis import arm_plots

# Two episodes: periods of 100, 103, 100 and 250 ms, and 5 s between them.
TIME_S = np.array([50.0, 50.1, 50.203, 55.203, 55.303, 55.553])
STEPS = arm_plots.Steps(
  TIME_S,
  np.array([1, 1, 1, 2, 2, 2]),
  np.array([0.0, 1, 1, 0, 0, 1]),
  np.ones((6, 4)),
  np.zeros(6, bool),
  np.array([0, 0, 1, 0, 0, 1], bool),
)
COMMANDS = arm_plots.Commands(np.array([50.0, 51.0, 90.0]), np.full((3, 4), 0.3), np.full((3, 4), 0.2))


def test_the_summary_is_counted_by_hand():
  assert arm_plots.summary(STEPS, control_dt_s=0.1) == [
    "4 steps in 2 episodes: 0.000 h of 0.002 h",
    "return 1.50, from 1 to 2",
    "jitter about 100 ms: p50 1.50 ms, p99 145.59 ms, at most 150.00 ms",  # Deviations are 0, 0, 3, 150.
    "1 gaps, the longest 0.25 s",
    "0 more steps cut short: nobody waited, or target or camera was lost",
  ]
  short = STEPS._replace(is_cut_short=np.arange(6) == 5)  # The step of 250 ms.
  counted, paid, jitter, gaps, cut = arm_plots.summary(short, control_dt_s=0.1)
  assert counted.startswith("3 steps in 2 episodes") and gaps == "0 gaps" and "at most 3.00 ms" in jitter
  assert paid == "return 1.50, from 1 to 2" and cut.startswith("1 more steps cut short")
  unfinished = STEPS._replace(is_last=np.arange(6) == 2)  # The second episode has paid 1 but not ended: no return.
  assert arm_plots.summary(unfinished, control_dt_s=0.1)[1] == "return 2.00, from 2 to 2; 1 more episodes did not end"
  none = STEPS._replace(is_last=np.zeros(6, bool))
  assert arm_plots.summary(none, control_dt_s=0.1)[1] == "no whole episode; 2 more episodes did not end"
  headless = STEPS._replace(episode=np.array([0, 0, 0, 0, 0, 1]))  # Two sessions whose first files are missing.
  assert arm_plots.summary(headless, control_dt_s=0.1) == ["no whole step"]
  headless = STEPS._replace(episode=np.array([0, 0, 0, 1, 1, 1]))
  assert arm_plots.summary(headless, control_dt_s=0.1)[0].startswith("2 steps in 1 episodes")
  nobody = np.zeros(0, bool)
  empty = arm_plots.Steps(np.zeros(0), np.zeros(0, int), np.zeros(0), np.zeros((0, 4)), nobody, nobody)
  assert arm_plots.summary(empty, control_dt_s=0.1) == ["no whole step"]


def test_the_figure_shows_every_joint_and_fault():
  fig = arm_plots.figure(STEPS, COMMANDS, control_dt_s=0.1, fault_s=[52.0])
  angles, jitter, spread, *joints = [axis for axis in fig.axes if axis.get_visible()]
  assert len(angles.lines) == 4 + 1 and len(joints) == 4  # One line marks the fault.
  assert angles.lines[-1].get_xdata()[0] == (52.0 - 50.0) / 60
  np.testing.assert_allclose(jitter.lines[0].get_ydata(), [100, 103, np.nan, 100, 250], atol=1e-6)
  np.testing.assert_allclose(spread.lines[0].get_xdata(), [0, 0, 3, 150], atol=1e-6)
  asked, allowed = joints[3].lines
  np.testing.assert_array_equal(asked.get_ydata(), [0.3, 0.3])  # Commands of the first ten seconds.
  np.testing.assert_array_equal(allowed.get_ydata(), [0.2, 0.2])
