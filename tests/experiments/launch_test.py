"""What a plan's binary prints and refuses, and that the project's own plans can be run."""

import pathlib

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import launch
from experiments.running import jobs as jobs_lib


@pytest.fixture(autouse=True)
def parsed():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


PLAN = """
from experiments.running import plan

def get_plan(variant=""):
  config = "experiments/configs/jaco_talk.py"
  return [plan.Job("a", config=config), plan.Job("b", config=config + ":arm", fields={"source": "{a}", %s})]
"""


@pytest.fixture
def write(tmp_path):
  def write(text):
    (tmp_path / "own.py").write_text(text)
    return str(tmp_path / "own.py")

  return write


def test_commands_are_printed_in_order(write, tmp_path, capsys):
  with flagsaver.flagsaver(plan=write(PLAN % ""), workdir=str(tmp_path / "w"), dry_run=True, only=["b"]):
    launch.main()
  first, second = capsys.readouterr().out.splitlines()
  assert first.endswith(f"--config=experiments/configs/jaco_talk.py --workdir={tmp_path}/w/a")
  assert second.endswith(f"--workdir={tmp_path}/w/b --config.source={tmp_path}/w/a")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (PLAN % '"train.stepz": 1', "job 'b': .*no field --config.train.stepz; nearest is --config.train.steps"),
    (PLAN.replace("jaco_talk", "jaco_walk") % "", "job 'a': .*jaco_walk.py does not exist"),
    (PLAN.replace('Job("a",', 'Job("a", "trane",') % "", "job 'a': no binary is called 'trane'"),
    ("x = 1", r"own.py has no function get_plan\(\)"),
    ("def get_plan(): return [1]", "returns int, not running.plan.Job"),
  ],
)
def test_a_plan_with_a_mistake_is_refused_before_anything_runs(write, tmp_path, text, message):
  with flagsaver.flagsaver(plan=write(text), workdir=str(tmp_path / "w")), pytest.raises(ValueError, match=message):
    launch.main()
  assert not (tmp_path / "w").exists()


def test_the_project_s_plans_can_be_run(tmp_path):
  plans = sorted(pathlib.Path("experiments/plans").glob("[!_]*.py"))
  assert plans
  for file in plans:
    jobs = launch.load(str(file))
    launch.check_commands(jobs, jobs_lib.Folder(tmp_path, jobs))
