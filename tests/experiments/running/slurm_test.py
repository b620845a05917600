"""What the launcher asks SLURM, and what it makes of the answers. Commands of the same names keep a list of jobs.

`slurm_cluster_test.py` does the same with a real SLURM.
"""

import fcntl
import json
import os
import signal

import pytest

from experiments.running import job_folder, plan, slurm, stop
from experiments.running import jobs as jobs_lib
from experiments.store import lock as lock_lib
from tests.experiments.running import jobs_test

# Each command notes how it was called. The queue is a file with one line per job. sbatch adds one; nothing ever starts.
_NOTE = '#!/bin/bash\ncd "$(dirname "$0")" || exit 1\necho "$(basename "$0") $*" >> calls\n'
_FAKES = {
  "sbatch": """
number=$((100 + $(grep -c ^sbatch calls)))
for word in "$@"; do
  case $word in
    --partition=nope) printf 'sbatch: error: no partition nope\\nsbatch: error: Refused\\n' >&2; exit 1 ;;
    --job-name=*) echo "$number|PENDING|Priority|${word#--job-name=}" >> queue ;;
  esac
done
echo "$number;cluster"
""",
  "squeue": """
if [ -n "${SQUEUE_STATES:-}" ]; then exit 0; fi
for word in "$@"; do case $word in --jobs=*) grep "^${word#--jobs=}|" queue | cut -d "|" -f 2; exit 0 ;; esac; done
cat queue
""",
  "scontrol": "",
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  """The folder of the commands, with `queue` and `calls`."""
  folder = tmp_path / "bin"
  folder.mkdir()
  for name, text in _FAKES.items():
    (folder / name).write_text(_NOTE + text)
    (folder / name).chmod(0o755)
  (folder / "queue").touch()
  (folder / "calls").touch()
  monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
  monkeypatch.setenv("JAX_PLATFORMS", "")
  return folder


def calls(cluster, name):
  lines = (cluster / "calls").read_text().splitlines()
  return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def numbers(cluster):
  """Name of each queued job -> its number."""
  rows = [line.split("|") for line in (cluster / "queue").read_text().splitlines()]
  return {name.partition("@")[0]: number for number, _, _, name in rows}


def set_states(cluster, **states):
  """Leaves only these jobs in the queue, in these states."""
  rows = [line.split("|") for line in (cluster / "queue").read_text().splitlines()]
  kept = [(row[0], states[name], "None", row[3]) for row in rows if (name := row[3].partition("@")[0]) in states]
  (cluster / "queue").write_text("".join("|".join(row) + "\n" for row in kept))


def submit(jobs, path, **options):
  folder = job_folder.Folder(path, jobs)
  jobs_lib.submit(jobs, folder, start=lambda job: ["launch", "a b", job.name], **options)
  return folder


COLUMN = plan.Job("column", config="c.py", hours=1.51, devices=2)
ARM = plan.Job("arm", config="c.py:arm", fields={"source": "{column}"})
FIGURE = plan.Job("figure", "figures", flags={"runs": ["{arm}", "{column}"]}, hours=0.1)
JOBS = [FIGURE, COLUMN, ARM]


def test_each_job_is_queued_after_what_it_needs_with_its_time_and_devices(cluster, tmp_path):
  path = tmp_path / "50% of it"
  submit(JOBS, path, options=["partition=gpu", "time=5"])
  column, arm, figure = calls(cluster, "sbatch")
  assert column == (
    f"--nodes=1 --gpus=2 --time=106 --signal=B:USR1@180 --partition=gpu --time=5 --parsable --requeue "
    f"--job-name=column@{path} --open-mode=append --output={tmp_path}/50%% of it/column.log "
    f"--wrap=exec launch 'a b' column"
  )
  assert numbers(cluster) == {"column": "101", "arm": "102", "figure": "103"}
  assert "--gpus=1" in arm and "--dependency=afterok:101 --kill-on-invalid-dep=yes" in arm and "--time=75 " in arm
  assert "--dependency=afterok:102:101 --kill-on-invalid-dep=yes" in figure


def test_cores_are_asked_for_where_jax_is_to_use_them_and_cards_in_one_way_alone(cluster, tmp_path, monkeypatch):
  submit([COLUMN], tmp_path / "typed", options=["gres=gpu:a100:2"])
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  submit([COLUMN], tmp_path / "cores", options=["gres=tmp:1"])
  typed, cores = calls(cluster, "sbatch")
  assert "--gres=gpu:a100:2" in typed and "--gpus" not in typed and "--cpus-per-task" not in typed
  assert "--cpus-per-task=2" in cores and "--gpus" not in cores


def test_nothing_is_submitted_twice_and_what_left_the_queue_is_submitted_again(cluster, tmp_path, monkeypatch):
  submit(JOBS, tmp_path)
  submit([COLUMN], tmp_path / "other")  # The same name, elsewhere.
  assert len(calls(cluster, "sbatch")) == 4
  monkeypatch.setenv("SQUEUE_STATES", "RUNNING")  # A user's own view of the queue.
  submit(JOBS, tmp_path)
  assert len(calls(cluster, "sbatch")) == 4
  set_states(cluster, column="RUNNING")
  submit(JOBS, tmp_path)
  arm, figure = calls(cluster, "sbatch")[4:]
  assert "--dependency=afterok:101 " in arm and "--job-name=figure@" in figure


def test_what_is_done_is_not_waited_for(cluster, tmp_path):
  folder = job_folder.Folder(tmp_path, JOBS)
  folder.write(COLUMN, job_folder.Record(job_folder.DONE, job_folder.as_json(COLUMN)))
  (tmp_path / COLUMN.name).mkdir()
  submit(JOBS, tmp_path)
  arm, figure = calls(cluster, "sbatch")
  assert "--dependency" not in arm and f"--dependency=afterok:{numbers(cluster)['arm']} " in figure


def test_what_comes_after_a_job_that_is_queued_anew_is_queued_after_it(cluster, tmp_path):
  folder = job_folder.Folder(tmp_path, JOBS)
  for ended_s, job in enumerate((COLUMN, ARM, FIGURE), start=1):
    needs = {name: folder.stored(name).ended_s for name in job.needs()}
    record = job_folder.Record(job_folder.DONE, job_folder.as_json(job), on_slurm=True, ended_s=ended_s, needs=needs)
    folder.write(job, record)
    (tmp_path / job.name).mkdir()
  submit(JOBS, tmp_path)
  assert not calls(cluster, "sbatch")
  new = plan.Job("new", fields={"source": "{arm}"})
  submit([FIGURE, plan.Job("column", config="other.py"), ARM, new], tmp_path)
  _, arm, figure, another = calls(cluster, "sbatch")
  assert "--dependency=afterok:101 " in arm and numbers(cluster)["arm"] == "102"
  assert "--dependency=afterok:102:101 " in figure and "--dependency=afterok:102 " in another
  submit([FIGURE, plan.Job("column", config="other.py"), ARM, new], tmp_path)
  assert len(calls(cluster, "sbatch")) == 4


def test_jobs_that_need_a_job_running_outside_slurm_are_not_submitted(cluster, tmp_path):
  folder = job_folder.Folder(tmp_path, JOBS)
  folder.write(COLUMN, job_folder.Record(job_folder.RUNNING))
  with folder.log(COLUMN).open("w") as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    submit([*JOBS, plan.Job("alone")], tmp_path)
    with pytest.raises(job_folder.BusyError, match="job 'column' runs already, by another launcher here"):
      jobs_lib.run_on_node(COLUMN, folder)
  assert list(numbers(cluster)) == ["alone"]


def test_a_job_that_ends_while_slurm_is_asked_is_done(cluster, tmp_path):
  """Its record was read before. The job has left the queue, but was not stopped."""
  folder = submit([COLUMN], tmp_path)
  folder.write(COLUMN, job_folder.Record(job_folder.RUNNING, job_folder.as_json(COLUMN), on_slurm=True))
  (tmp_path / "column").mkdir()
  (cluster / "squeue").write_text(f"#!/bin/sh\nsed -i 's/\"running\"/\"done\"/' '{tmp_path}/column.job.json'\n")
  (record,) = job_folder.Folder(tmp_path, [COLUMN]).read().values()
  assert record.state == job_folder.DONE


def test_two_launchers_do_not_submit_at_once(cluster, tmp_path):
  with lock_lib.alone(tmp_path), pytest.raises(ValueError, match=f"another process is at work in {tmp_path}"):
    submit(JOBS, tmp_path)
  assert not calls(cluster, "sbatch")


def test_a_job_that_was_queued_twice_is_done_once(cluster, tmp_path, monkeypatch):
  jobs = [job] = [jobs_test.script("job", jobs_test.SAY.format("job"))]
  submit(jobs, tmp_path)
  set_states(cluster, job="RUNNING")
  monkeypatch.setenv("SLURM_JOB_ID", numbers(cluster)["job"])
  for _ in range(2):
    with pytest.raises(SystemExit) as ended:
      jobs_lib.run_on_node(job, job_folder.Folder(tmp_path, jobs))
    assert ended.value.code == 0
  assert (tmp_path / "order").read_text() == "job "


def test_a_dry_run_prints_commands_and_does_nothing(cluster, tmp_path, capsys):
  submit(JOBS, tmp_path / "w", is_dry=True)
  column, arm, figure = capsys.readouterr().out.splitlines()
  assert column.startswith("sbatch --nodes=1 --gpus=2 ") and "'--dependency=afterok:{column}'" in arm
  assert not calls(cluster, "sbatch") and not (tmp_path / "w").exists()


def test_the_table_says_what_slurm_has_what_ran_and_what_waits(cluster, tmp_path):
  folder = submit(JOBS, tmp_path)
  set_states(cluster, column="RUNNING", arm="PENDING")
  folder.log(COLUMN).write_text("step 10\n")
  folder.log(FIGURE).write_text("python: not found\n")  # It was queued, could not start, and is gone.
  table = job_folder.table(JOBS, job_folder.Folder(tmp_path, JOBS)).splitlines()
  assert table[1].split(None, 4) == ["figure", "left", "0.00", "0.1", "waits for arm, column"]
  assert table[2].split(None, 4) == ["column", "running", "0.00", "1.51", "SLURM job 101, RUNNING: step 10"]
  assert table[3].split(None, 4) == ["arm", "queued", "0.00", "1", "SLURM job 102, PENDING"]
  set_states(cluster)
  for job in (COLUMN, ARM):
    folder.write(job, job_folder.Record(job_folder.DONE, job_folder.as_json(job), on_slurm=True))
    (tmp_path / job.name).mkdir()
  table = job_folder.table(JOBS, job_folder.Folder(tmp_path, JOBS)).splitlines()
  assert table[1].split(None, 4) == ["figure", "left", "0.00", "0.1", "python: not found"]


def test_slurm_is_asked_and_no_lock_about_what_it_runs(cluster, tmp_path):
  folder = submit([COLUMN], tmp_path)
  folder.log(COLUMN).touch()  # No process here has locked it.
  folder.write(COLUMN, job_folder.Record(job_folder.RUNNING, job_folder.as_json(COLUMN), on_slurm=True))
  set_states(cluster, column="RUNNING")
  assert jobs_test.states([COLUMN], tmp_path) == {"column": job_folder.RUNNING}
  set_states(cluster)
  assert jobs_test.states([COLUMN], tmp_path) == {"column": job_folder.STOPPED}


def test_a_launcher_on_a_machine_leaves_what_is_queued(cluster, tmp_path):
  jobs = [jobs_test.script("queued", "pass"), jobs_test.script("here", "pass")]
  submit(jobs[:1], tmp_path)
  assert not jobs_test.run(jobs, tmp_path)
  assert jobs_test.states(jobs, tmp_path) == {"queued": job_folder.QUEUED, "here": job_folder.DONE}


def test_where_there_is_no_slurm_its_jobs_count_as_stopped_and_nothing_can_be_queued(
  cluster, tmp_path, monkeypatch, capsys
):
  folder = submit([COLUMN], tmp_path)
  folder.write(COLUMN, job_folder.Record(job_folder.RUNNING, job_folder.as_json(COLUMN), on_slurm=True))
  monkeypatch.setenv("PATH", str(tmp_path / "empty"))
  assert jobs_test.states([COLUMN], tmp_path) == {"column": job_folder.STOPPED}
  assert capsys.readouterr().err == f"warning: no squeue here to ask what SLURM has of {tmp_path}; taken as nothing\n"
  with pytest.raises(ValueError, match="job 'column': sbatch is not on this machine"):
    submit([COLUMN], tmp_path)


@pytest.mark.parametrize(
  ("option", "message"),
  [
    ("-p gpu", "--sbatch=-p gpu is not NAME=VALUE of one of sbatch's options, such as partition=gpu"),
    ("partition=", "--sbatch=partition= is not NAME=VALUE"),
    ("job-name=mine", "--sbatch=job-name=mine: job-name is set by the launcher; leave it out"),
    ("signal=USR1@60", "--sbatch=signal=USR1@60: signal is set by the launcher"),
    ("test-only", "--sbatch=test-only: test-only is set by the launcher"),
    ("partition=nope", "job 'column': sbatch: error: no partition nope; sbatch: error: Refused$"),
  ],
)
def test_options_that_cannot_be_are_refused_in_one_line(cluster, tmp_path, option, message):
  with pytest.raises(ValueError, match=message):
    submit([COLUMN], tmp_path, options=[option])
  assert not numbers(cluster)


STOPPED_BY_A_SIGNAL = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize(
  ("code", "in_slurm", "state", "requeues", "exit_code"),
  [
    ("print('done')", "RUNNING", job_folder.DONE, [], 0),
    ("raise SystemExit('error: no')", "RUNNING", job_folder.FAILED, [], 1),
    (STOPPED_BY_A_SIGNAL, "RUNNING", job_folder.STOPPED, ["requeue {number}"], 1),
    (STOPPED_BY_A_SIGNAL, "COMPLETING", job_folder.STOPPED, [], 1),  # Cancelled, or preempted: SLURM is ending it.
  ],
)
def test_on_a_node_a_job_leaves_its_record_and_is_queued_again_where_it_was_stopped(
  cluster, tmp_path, monkeypatch, code, in_slurm, state, requeues, exit_code
):
  jobs = [job] = [jobs_test.script("job", code)]
  number = numbers(cluster)["job"] if (folder := submit(jobs, tmp_path)) else ""
  folder.write(job, job_folder.Record(job_folder.STOPPED, hours=1.0, on_slurm=True))
  set_states(cluster, job=in_slurm)
  monkeypatch.setenv("SLURM_JOB_ID", number)
  with pytest.raises(SystemExit) as ended:
    jobs_lib.run_on_node(job, job_folder.Folder(tmp_path, jobs))
  record = json.loads((tmp_path / "job.job.json").read_text())
  assert ended.value.code == exit_code
  assert record["state"] == state and record["on_slurm"] and record["hours"] > 1.0
  assert calls(cluster, "scontrol") == [one.format(number=number) for one in requeues]


def test_a_job_without_checkpoints_is_not_requeued_forever(cluster, tmp_path, monkeypatch, capsys):
  jobs = [job] = [jobs_test.script("job", STOPPED_BY_A_SIGNAL, binary="evaluate")]
  folder = submit(jobs, tmp_path)
  set_states(cluster, job="RUNNING")
  monkeypatch.setenv("SLURM_JOB_ID", numbers(cluster)["job"])
  with pytest.raises(SystemExit, match="1"):
    jobs_lib.run_on_node(job, folder)
  assert calls(cluster, "scontrol") == [] and folder.stored("job").state == job_folder.STOPPED
  assert "job keeps nothing of what it has begun" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "state", "exit_code"), [(0, job_folder.DONE, 0), (143, job_folder.STOPPED, 1)])
def test_a_signal_to_the_launcher_stops_its_job_and_what_is_done_by_then_is_done(
  cluster, tmp_path, monkeypatch, code, state, exit_code
):
  text = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
print(*"ready", flush=True)
time.sleep(300)
"""
  jobs = [job] = [jobs_test.script("job", text)]
  folder = submit(jobs, tmp_path)
  set_states(cluster, job="RUNNING")
  monkeypatch.setenv("SLURM_JOB_ID", numbers(cluster)["job"])
  monkeypatch.setattr(stop, "asked", lambda: "r e a d y" in folder.log(job).read_text())
  monkeypatch.setattr(stop, "_signal", int(signal.SIGUSR1))
  with pytest.raises(SystemExit) as ended:
    jobs_lib.run_on_node(job, folder)
  assert ended.value.code == exit_code and folder.stored(job.name).state == state
  assert len(calls(cluster, "scontrol")) == (state == job_folder.STOPPED)


def test_slurm_s_own_words_are_an_error_where_it_does_not_answer(cluster, tmp_path):
  (cluster / "squeue").write_text("#!/bin/sh\necho 'squeue: error: no controller' >&2; exit 1\n")
  with pytest.raises(ValueError, match="^squeue: error: no controller$"):
    slurm.queue(tmp_path)
