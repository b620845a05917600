"""A plan on a real SLURM: one node on this machine, with daemons, ports, keys and folders of its own.

The world of its runs sleeps, so they run at the clock's speed, not the processor's. SLURM has time to stop them midway.
"""

import contextlib
import getpass
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time

import pytest

from tests import conftest

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
pytestmark = pytest.mark.skipif(
  any(shutil.which(name) is None for name in _PROGRAMS),
  reason=f"a real SLURM needs {', '.join(_PROGRAMS)}: apt-get install slurm-wlm munge",
)
_STEPS = 24_000  # A minute.
# One queue preempts the other. A requeued job waits for `cred_expire`, in seconds.
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=3
PartitionName=low Nodes=node Default=YES PriorityTier=1
PartitionName=urgent Nodes=node PriorityTier=2
"""


CONFIG = """
from tests.experiments.running import run_test

def get_config():
  config = run_test.make_config()
  config.world = "tests.agents.worlds:SlowCueRecall"
  config.train.update({{"steps": {steps}, "save_every": 0, "evaluate_every": 0, "updates_per_record": 100}})
  return config
"""
PLAN = """
from experiments.running import plan

def get_plan(variant=""):
  runs = [plan.Job(name, config="{config}", hours=0.1) for name in ("straight", "limited", "preempted")]
  after = plan.Job("after", "evaluate", flags={{"source": "{{limited}}", "episodes": 4}}, hours=0.1)
  bad = plan.Job("bad", "evaluate", flags={{"source": "nowhere"}})
  needy = [plan.Job(name, "evaluate", flags={{"source": need}}) for name, need in (("b", "{{bad}}"), ("c", "{{b}}"))]
  return {{"": [after, *runs], "bad": [bad, *needy], "cancelled": runs[:1]}}[variant]
"""


def wait_for(condition, *, limit_s=300.0):
  until_s = time.monotonic() + limit_s
  while not (value := condition()):
    assert time.monotonic() < until_s, "SLURM did not come so far"
    time.sleep(0.2)
  return value


def free_port():
  with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    return server.getsockname()[1]


class Cluster:
  """Runs a plan's commands, and SLURM's."""

  def __init__(self, folder, env):
    self.env, self._plan = env, str(folder / "plan.py")
    (folder / "config.py").write_text(CONFIG.format(steps=_STEPS))
    (folder / "plan.py").write_text(PLAN.format(config=folder / "config.py"))

  def call(self, *command):
    done = subprocess.run(command, capture_output=True, text=True, env=self.env, cwd=conftest.ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()

  def launch(self, workdir, *words, variant=""):
    """The rows of the launcher's table, by name."""
    command = [sys.executable, "-m", "experiments.launch", f"--plan={self._plan}:{variant}", f"--workdir={workdir}"]
    return {line.split()[0]: line for line in self.call(*command, *words).splitlines()[1:]}

  def is_idle(self):
    return not self.call("squeue", "--noheader")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  folder = tmp_path_factory.mktemp("slurm")
  for name in ("state", "spool"):
    (folder / name).mkdir()
  (folder / "munge.key").write_bytes(secrets.token_bytes(128))
  (folder / "munge.key").chmod(0o400)
  env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))}
  env |= {"SLURM_CONF": str(folder / "slurm.conf"), "JAX_PLATFORMS": "cpu"}
  env.setdefault("JAX_COMPILATION_CACHE_DIR", str(conftest.ROOT / ".cache" / "jax"))
  host, user = socket.gethostname().partition(".")[0], getpass.getuser()
  ports = {"controller_port": free_port(), "node_port": free_port()}
  (folder / "slurm.conf").write_text(_CONF.format(host=host, user=user, folder=folder, **ports))
  files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
  munged = ["munged", "--foreground", "--force", *(f"--{flag}={folder}/munge.{end}" for flag, end in files.items())]
  cluster = Cluster(folder, env)
  with contextlib.ExitStack() as daemons:
    for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "node"]):
      log = daemons.enter_context((folder / f"{command[0]}.said").open("w"))
      process = daemons.enter_context(subprocess.Popen(command, env=env, stdout=log, stderr=log))
      daemons.callback(process.terminate)
      if command is munged:
        wait_for((folder / "munge.socket").exists, limit_s=60)
    sinfo = ("sinfo", "--noheader", "--partition=low", "--format=%T")
    wait_for(lambda: "idle" in subprocess.run(sinfo, capture_output=True, text=True, env=env).stdout, limit_s=60)
    yield cluster
    cluster.call("scancel", "--user", user)
    wait_for(cluster.is_idle, limit_s=60)


def test_runs_that_slurm_stops_end_as_if_nothing_had_happened(cluster, tmp_path):
  first = cluster.launch(tmp_path, "--on=slurm", "--only=straight", "--only=limited", "--sbatch=partition=urgent")
  rest = cluster.launch(tmp_path, "--on=slurm")
  numbers = {name: re.search(r"SLURM job (\d+)", row)[1] for name, row in rest.items()}
  assert len(set(numbers.values())) == 4
  assert all(f"SLURM job {numbers[name]}," in row for name, row in first.items())  # Nothing is submitted twice.
  for name in ("straight", "limited", "preempted"):
    wait_for((tmp_path / name / "metrics.jsonl").exists)
  table = cluster.launch(tmp_path, "--status")
  assert "running" in table["preempted"] and "PENDING (Dependency)" in table["after"]
  cluster.call("scontrol", "update", f"JobId={numbers['limited']}", "TimeLimit=2")  # SLURM warns it 3 minutes before.
  cluster.call("sbatch", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 1")  # No core is free for it.
  wait_for(lambda: "limited: stopped" in (tmp_path / "limited.log").read_text())
  cluster.call("scontrol", "update", f"JobId={numbers['limited']}", "TimeLimit=20")
  wait_for(cluster.is_idle)

  assert all(row.split()[1] == "done" for row in cluster.launch(tmp_path, "--status").values())
  straight, limited, preempted = (tmp_path / f"{name}.log" for name in ("straight", "limited", "preempted"))
  assert "continues from step" not in straight.read_text()
  assert "DUE TO JOB REQUEUE" in limited.read_text() and "continues from step" in limited.read_text()
  assert "DUE TO PREEMPTION" in preempted.read_text() and "continues from step" in preempted.read_text()
  checkpoints = [
    tmp_path / log.stem / "checkpoints" / f"{_STEPS}.safetensors" for log in (straight, limited, preempted)
  ]
  assert len({file.read_bytes() for file in checkpoints}) == 1


def test_a_job_that_fails_takes_those_that_need_it_out_of_the_queue(cluster, tmp_path):
  assert len(cluster.launch(tmp_path, "--on=slurm", variant="bad")) == 3
  wait_for(cluster.is_idle)
  table = cluster.launch(tmp_path, "--status", variant="bad")
  assert "failed" in table["bad"] and "nowhere does not exist" in table["bad"]
  assert "left" in table["b"] and "waits for bad" in table["b"] and "waits for b" in table["c"]


def test_a_cancelled_job_saves_and_does_not_come_back(cluster, tmp_path):
  row = cluster.launch(tmp_path, "--on=slurm", variant="cancelled")["straight"]
  wait_for((tmp_path / "straight" / "metrics.jsonl").exists)
  cluster.call("scancel", re.search(r"SLURM job (\d+)", row)[1])
  wait_for(cluster.is_idle)
  assert json.loads((tmp_path / "straight.job.json").read_text())["state"] == "stopped"
  assert list((tmp_path / "straight" / "checkpoints").iterdir())
