"""What a plan's binary prints and refuses, and that the project's own plans can be run."""

import math
import os
import pathlib
import shlex
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import analyse, benchmark, evaluate, figures, launch, matrix, navigate, train
from experiments.running import job_folder

# A plan's binaries are imported before `flagsaver` saves: it removes the flags that are defined meanwhile.
BINARIES = (analyse, benchmark, evaluate, figures, matrix, navigate, train)


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
  plan = write(PLAN.replace("return [", "return reversed([").replace("})]", "})])") % "")
  with flagsaver.flagsaver(plan=plan, workdir=str(tmp_path / "w"), dry_run=True, only=["b"]):
    launch.main()
  first, second = capsys.readouterr().out.splitlines()
  assert first.endswith(f"--config=experiments/configs/jaco_talk.py --workdir={tmp_path}/w/a")
  assert second.endswith(f"--workdir={tmp_path}/w/b --config.source={tmp_path}/w/a")


def test_a_login_node_needs_no_device_of_the_jobs(write, tmp_path):
  command = [sys.executable, "-m", "experiments.launch", f"--plan={write(PLAN % '')}", f"--workdir={tmp_path}/w"]
  environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
  done = subprocess.run([*command, "--dry_run"], capture_output=True, text=True, env=environment)
  assert done.returncode == 0 and done.stdout.count("experiments.train") == 2, done.stderr


def test_slurm_is_given_this_command_again_for_each_job(write, tmp_path, capsys, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))  # A machine without SLURM can print what would be queued.
  plan, workdir = write(PLAN % ""), str(tmp_path / "a w")
  with flagsaver.flagsaver(plan=plan, workdir=workdir, dry_run=True, on="slurm", sbatch=["partition=gpu"]):
    launch.main()
  a, b = (shlex.split(line) for line in capsys.readouterr().out.splitlines())
  assert a[0] == "sbatch" and "--partition=gpu" in a and "--dependency=afterok:{a}" in b
  start = ["exec", sys.executable, "-m", "experiments.launch", f"--plan={plan}", f"--workdir={workdir}"]
  assert shlex.split(b[-1].removeprefix("--wrap=")) == [*start, "--only=b", "--on=node"]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"on": "slurm", "hours": 1.0}, "--hours is for --on=local, not for --on=slurm; leave it out"),
    ({"hours": 0.0}, "--hours=0: give a number above 0"),
    ({"hours": math.nan}, "--hours=nan: give a number above 0"),
    ({"on": "slurm", "jobs": 1}, "--jobs is for --on=local"),
    ({"sbatch": ["partition=gpu"]}, "--sbatch is for --on=slurm, not for --on=local"),
    ({"on": "node", "only": ["a"]}, "--on=node is what SLURM starts, for one --only=NAME; .* use --on=local"),
  ],
)
def test_flags_that_would_change_nothing_are_refused(write, tmp_path, monkeypatch, given, message):
  monkeypatch.delenv("SLURM_JOB_ID", raising=False)
  with (
    flagsaver.flagsaver(plan=write(PLAN % ""), workdir=str(tmp_path / "w"), **given),
    pytest.raises(ValueError, match=message),
  ):
    launch.main()
  assert not (tmp_path / "w").exists()


def _plan_of(binary, **flags):
  return f"""
from experiments.running.plan import Job
def get_plan():
  return [Job("a", {binary!r}, flags={flags!r})]
"""


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (PLAN % '"train.stepz": 1', "job 'b': .*no field --config.train.stepz; nearest is --config.train.steps"),
    (PLAN.replace("jaco_talk", "jaco_walk") % "", "job 'a': .*jaco_walk.py does not exist"),
    (PLAN.replace('Job("a",', 'Job("a", "trane",') % "", "job 'a': no binary is called 'trane'; nearest is train"),
    (PLAN % '"train.steps": "many"', "job 'b': .*train.steps.*many"),
    (PLAN % '"train.hyper.learning_rate": -1.0', "job 'b': train.hyper.learning_rate=-1.0 must be"),
    (PLAN.replace('Job("a",', 'Job("a", "matrix",') % "", "job 'a': this config has no section 'matrix'"),
    (_plan_of("train"), "job 'a': --config is missing"),
    (_plan_of("evaluate", episode=100), "job 'a': Unknown command line flag 'episode'. Did you mean: episodes"),
    (_plan_of("evaluate", episodes="many"), "job 'a': .*episodes.*many"),
    (_plan_of("figures", outt="x"), "job 'a': Unknown command line flag 'outt'"),
    ("x = 1", r"own.py has no function get_plan\(\)"),
    ("def get_plan(): return [1]", "returns int, not running.plan.Job"),
    ("def get_plan(): return None", r"get_plan\(\) returns no jobs, but None"),
    ("def get_plan(): return []", r"get_plan\(\) returns no jobs, but \[\]"),
    ("def get_plan(): yield 1", "returns int, not running.plan.Job"),
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
    assert {job.binary for job in jobs} <= {module.__name__.rpartition(".")[2] for module in BINARIES}
    launch.check_commands(jobs, job_folder.Folder(tmp_path, jobs))


@pytest.mark.parametrize("file", sorted(pathlib.Path("experiments/plans").glob("[!_]*.py")), ids=lambda file: file.stem)
def test_figures_wait_for_what_measures_what_they_draw(file):
  """`pnn` draws what `analyse` writes into a matrix, also APS. `nav` draws what `navigate` writes into each sweep."""
  jobs = launch.load(str(file))
  for figure in [job for job in jobs if job.binary == "figures"]:
    drawn = set(figure.flags["runs"])
    beside = [job for job in jobs if job.binary in ("analyse", "navigate") and job.flags["runs"] in drawn]
    assert drawn and {job.name for job in beside} <= set(figure.needs())
    if figure.flags["figure"] == "pnn":
      assert any(job.binary == "analyse" and job.flags["aps"] for job in beside), figure.name
    if figure.flags["figure"] == "nav":
      assert {job.flags["runs"] for job in beside if job.binary == "navigate"} == drawn, figure.name


def test_what_an_offline_machine_made_comes_home_without_states_that_nobody_needs(tmp_path):
  made = {
    "a.job.json": '{\n  "state": "stopped"\n}',
    "a/runs/00/metrics.jsonl": "{}",
    "a/best/params.safetensors": "best",
    "a/checkpoints/900.safetensors": "old",
    "a/checkpoints/1000.safetensors": "newest",
    "a/tensorboard/events": "large",
    "b.job.json": '{\n  "state": "done"\n}',
    "b/checkpoints/10.safetensors": "all that there is of the trained network",
    "b/checkpoints/unfinished/20.safetensors": "cut short",
    "b/network.json": "{}",
    "d.job.json": '{\n  "state": "done"\n}',
    "d/best/params.safetensors": "what others start from",
    "d/checkpoints/10.safetensors": "no longer needed",
    "e.job.json": '{\n  "state": "done"\n}',
    "e/config.json": '{\n  "world": "maze/static_1"\n}',
    "e/best/params.safetensors": "what others start from",
    "e/checkpoints/10.safetensors": "navigate tests it",
    "e/episodes.npz": "its test",
    "figure/nav_fig3.png": "drawn there",
    "released/params.safetensors": "of evaluate --release",
    "c.job.json": '{\n  "state": "done"\n}',  # A job of one cell; another job has a second one in this folder.
    "c/matrix.json": "{}",
    "c/done/outcome.json": "{}",
    "c/done/checkpoints/10.safetensors": "no longer needed",
    "c/under_way/checkpoints/5.safetensors": "goes on",
    "c/host/outcome.json": "{}",
    "c/host/runs/00/checkpoints/10.safetensors": "no longer needed",
    "c/host_under_way/runs/00/checkpoints/5.safetensors": "goes on",
  }
  for name, text in made.items():
    file = tmp_path / "runs" / "offline" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
  script = str(pathlib.Path("experiments/plans/offline.sh").resolve())
  subprocess.run(["bash", script, "pack", "out"], cwd=tmp_path, check=True, capture_output=True)
  (tmp_path / "runs").rename(tmp_path / "there")
  subprocess.run(["bash", script, "unpack", "out"], cwd=tmp_path, check=True, capture_output=True)
  home = tmp_path / "runs" / "offline"
  came = {str(file.relative_to(home)): file.read_text() for file in home.rglob("*") if file.is_file()}
  left = {"a/checkpoints/900.safetensors", "a/tensorboard/events", "b/checkpoints/unfinished/20.safetensors"}
  left |= {"c/done/checkpoints/10.safetensors", "d/checkpoints/10.safetensors"}
  left |= {"c/host/runs/00/checkpoints/10.safetensors"}
  brought = {name: text for name, text in made.items() if name not in left}
  assert came == brought

  (home / "a/runs/00/metrics.jsonl").write_text("newer, at home")
  (tmp_path / "out" / "offline.tar.gz.01").write_text("of an earlier call")
  subprocess.run(["bash", script, "unpack", "out"], cwd=tmp_path, capture_output=True)
  assert (home / "a/runs/00/metrics.jsonl").read_text() == "newer, at home"
  subprocess.run(["bash", script, "pack", "out"], cwd=tmp_path, check=True, capture_output=True)
  assert [file.name for file in (tmp_path / "out").iterdir()] == ["offline.tar.gz.00"]
