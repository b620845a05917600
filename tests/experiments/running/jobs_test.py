"""Plans: what is refused, in which order jobs run, and what is known about them afterwards."""

import contextlib
import dataclasses
import fcntl
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from experiments.running import job_folder, plan
from experiments.running import jobs as jobs_lib
from experiments.store import lock as lock_lib
from tests import conftest

CORE = min(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Script(plan.Job):
  """A job that runs the Python code in its flag `code`, with the plan's folder as argument."""

  has_own_folder = False

  def command(self, folders):
    return [sys.executable, "-c", self.flags["code"], os.path.dirname(folders[self.name])]


def script(name, code, *, after=(), **options):
  return Script(name, flags={"code": code, "after": [f"{{{one}}}" for one in after]}, **options)


SAY = "import sys, pathlib; file = pathlib.Path(sys.argv[1], 'order'); file.open('a').write('{} ')"


def run(jobs, path, *, num_devices=1, hours=1.0):
  devices = [jobs_lib.Device(str(CORE), is_core=True)] * num_devices
  return jobs_lib.run(jobs, job_folder.Folder(path, jobs), devices=devices, hours=hours)


def states(jobs, path):
  folder = job_folder.Folder(path, jobs)
  return {name: record.state for name, record in folder.read().items()}


def test_a_command_has_its_config_fields_and_the_folders_of_other_jobs():
  job = plan.Job(
    "arm", config="c.py:v", fields={"source": "{column}", "train.auxiliary": {}}, flags={"cell": ("a", "b")}
  )
  assert job.command({"arm": "w/arm", "column": "w/column"})[1:] == [
    *("-m", "experiments.train", "--config=c.py:v", "--workdir=w/arm"),
    *("--config.source=w/column", "--config.train.auxiliary={}", "--cell=a", "--cell=b"),
  ]
  assert job.needs() == ("column",)
  figure = plan.Job("figure", "figures", flags={"out": "{figure}", "runs": "{arm}"})
  assert figure.needs() == ("arm",) and "--workdir=w/figure" not in figure.command({"arm": "", "figure": "w/figure"})


@pytest.mark.parametrize(
  ("jobs", "message"),
  [
    ([plan.Job("a/b")], "'a/b': a name is a folder's"),
    ([plan.Job("a.1")], "'a.1': a name is a folder's"),  # The name of what job a sets aside.
    ([plan.Job("a", hours="2")], "'a': hours='2' is no float"),
    ([plan.Job("a", fields=["x"])], "'a': fields=.'x'. is no mapping"),
    ([plan.Job("a"), plan.Job("a")], "two jobs are called 'a'"),
    ([plan.Job("a", fields={"source": "{b}"})], "'a' needs {b}, but no job is called that"),
    ([plan.Job("a", fields={"source": "{b}"}), plan.Job("b", fields={"source": "{a}"})], "circle: (a -> b|b -> a)"),
    ([plan.Job("a", devices=0)], "devices=0"),
    ([plan.Job("a", hours=float("nan"))], "hours=nan"),
    ([plan.Job("a", flags={"runs": pathlib.Path("b")})], "flag runs=PosixPath.'b'. is no word and no number"),
    ([plan.Job("a", hours=float("inf"))], "hours=inf must be above 0, and finite"),
  ],
)
def test_a_plan_that_cannot_be_run_is_refused(jobs, message):
  with pytest.raises(ValueError, match=message):
    plan.check(jobs)


def test_a_part_of_a_plan_is_named():
  parts = {"one": [plan.Job("a")], "two": [plan.Job("b"), plan.Job("c")]}
  assert [job.name for job in plan.of_parts("p.py", "", parts)] == ["a", "b", "c"]
  assert [job.name for job in plan.of_parts("p.py", "two", parts)] == ["b", "c"]
  with pytest.raises(ValueError, match="p.py:three is not one of one, two; nearest is two"):
    plan.of_parts("plans/p.py", "three", parts)


def test_jobs_run_by_priority_and_after_their_dependencies(tmp_path):
  jobs = [
    script("third", SAY.format(3), after=["second"]),
    script("first", SAY.format(1)),
    script("second", SAY.format(2)),
  ]
  assert run(jobs, tmp_path)
  assert (tmp_path / "order").read_text() == "1 2 3 "
  assert run(jobs, tmp_path) and (tmp_path / "order").read_text() == "1 2 3 "  # Nothing is done twice.
  changed = [*jobs[:2], script("second", SAY.format(4))]
  assert run(changed, tmp_path)  # The changed command runs, and so does what needs it.
  assert (tmp_path / "order").read_text() == "1 2 3 4 3 "
  assert run(changed, tmp_path) and (tmp_path / "order").read_text() == "1 2 3 4 3 "


def test_a_job_whose_output_is_gone_is_done_again(tmp_path):
  """Like `evaluate --release={played}`, which makes a folder but does not learn in it."""
  code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'played').mkdir(); " + SAY.format("played")
  jobs = [
    Script("played", flags={"code": code, "release": "{played}"}),
    script("drawn", SAY.format("drawn"), after=["played"]),
  ]
  assert run(jobs, tmp_path) and run(jobs, tmp_path)
  shutil.rmtree(tmp_path / "played")
  assert run(jobs, tmp_path) and (tmp_path / "played").is_dir()
  assert (tmp_path / "order").read_text() == "played drawn played drawn "


def test_what_comes_after_a_job_that_is_done_anew_is_done_anew_too(tmp_path):
  def chain(first, *others):
    middle = script("middle", SAY.format("middle"), after=["first"])
    late = script("late", SAY.format("late"), after=["middle"])
    return [
      late,
      script("first", first),
      middle,
      *(script(name, SAY.format(name), after=["middle"]) for name in others),
    ]

  assert run(chain(SAY.format(1)), tmp_path)
  changed = chain(SAY.format(2), "new")
  assert set(states(changed, tmp_path).values()) == {job_folder.LEFT}
  assert run(changed, tmp_path)
  assert (tmp_path / "order").read_text() == "1 middle late 2 middle late new "
  broken = chain("raise SystemExit('error: no')", "newer")
  assert not run(broken, tmp_path)  # The results of another first job are not what is asked for.
  left = dict.fromkeys(("late", "middle", "newer"), job_folder.LEFT)
  assert states(broken, tmp_path) == left | {"first": job_folder.FAILED}
  assert (tmp_path / "order").read_text() == "1 middle late 2 middle late new "


class Learner(Script):
  """A job that finds what it has learned before, like `train`."""

  has_own_folder = True


LEARN = """
import pathlib, sys
own = pathlib.Path(sys.argv[1], {0!r})
own.mkdir(exist_ok=True)
if not (own / 'learned.safetensors').exists(): (own / 'learned.safetensors').write_text({1!r})
"""


def learners(word):
  first = Learner("first", flags={"code": LEARN.format("first", word)})
  return [first, Learner("next", flags={"code": LEARN.format("next", word), "after": ["{first}"]})]


@pytest.mark.parametrize("state", [job_folder.DONE, job_folder.STOPPED])
def test_what_was_learned_from_a_job_that_is_done_anew_is_set_aside(tmp_path, state):
  assert run(learners("old"), tmp_path)
  folder = job_folder.Folder(tmp_path, learners("old"))
  folder.write(learners("old")[1], dataclasses.replace(folder.stored("next"), state=state))
  shutil.rmtree(tmp_path / "first")
  assert states(learners("old"), tmp_path)["first"] == job_folder.LEFT
  assert run(learners("new"), tmp_path)
  read = lambda name: (tmp_path / name / "learned.safetensors").read_text()  # noqa: E731
  assert (read("first"), read("next"), read("next.1")) == ("new", "new", "old")
  assert run(learners("new"), tmp_path) and not (tmp_path / "next.2").exists()
  first, after = learners("new")
  again = [dataclasses.replace(first, flags=first.flags | {"said": "otherwise"}), after]
  assert run(again, tmp_path) and set(states(again, tmp_path).values()) == {job_folder.DONE}
  assert not (tmp_path / "next.2").exists()  # The first job was finished, and has not changed.


def test_what_another_config_has_learned_is_set_aside_and_more_steps_go_on(tmp_path):
  def job(**fields):
    return [Learner("first", config="one.py", fields=fields, flags={"code": LEARN.format("first", str(fields))})]

  assert run(job(seed=0), tmp_path)
  for goes_on in ({"train.steps": 9}, {"train.steps": 10}, {"wandb.mode": "offline"}, {"matrix.targets": "('a',)"}):
    assert run(job(seed=0, **goes_on), tmp_path) and not (tmp_path / "first.1").exists()
  assert run(job(seed="0"), tmp_path) and not (tmp_path / "first.1").exists()
  assert run(job(seed=1), tmp_path)
  read = lambda name: (tmp_path / name / "learned.safetensors").read_text()  # noqa: E731
  assert (read("first"), read("first.1")) == ("{'seed': 1}", "{'seed': 0}")
  for fields, is_other in (
    ({"train.teacher": "a"}, True),
    ({"train.teacher": "b"}, True),
    ({"train.recording": "a"}, True),
    ({"source": "a"}, True),
    ({"source": "a", "train.steps": 10}, False),
    ({"source": "a", "train.steps": 9}, True),
    ({"source": "a", "train.hyper.reward_clip": "Infinity"}, True),
  ):
    num_before = len(list(tmp_path.glob("first.?")))
    assert run(job(seed=1, **fields), tmp_path)
    assert len(list(tmp_path.glob("first.?"))) == num_before + is_other, fields
    assert states(job(seed=1, **fields), tmp_path) == {"first": job_folder.DONE}, fields


def test_a_matrix_with_other_train_steps_sets_old_cells_aside(tmp_path):
  for steps in (9, 10):
    job = Learner(
      "first",
      "matrix",
      config="one.py",
      fields={"train.steps": steps},
      flags={"code": LEARN.format("first", str(steps))},
    )
    assert run([job], tmp_path)
  assert [(tmp_path / name / "learned.safetensors").read_text() for name in ("first", "first.1")] == ["10", "9"]


def test_a_sweep_that_writes_its_best_network_again_is_what_it_was(tmp_path):
  best = "\nbest = own / 'best'; best.mkdir(exist_ok=True); (best / 'params.safetensors').write_text('again')"
  first, after = learners("old")
  sweep = [dataclasses.replace(first, flags={"code": first.flags["code"] + best}), after]
  assert run(sweep, tmp_path)
  again = [dataclasses.replace(sweep[0], fields={"wandb.mode": "offline"}), after]
  assert run(again, tmp_path) and not (tmp_path / "next.1").exists()


def test_a_damaged_record_says_what_to_do(tmp_path):
  assert run(learners("old"), tmp_path)
  (tmp_path / "first.job.json").write_text("")
  with pytest.raises(ValueError, match=r"first.job.json is damaged; remove it: the job then goes on"):
    states(learners("old"), tmp_path)
  (tmp_path / "first.job.json").unlink()
  assert run(learners("new"), tmp_path)
  assert (tmp_path / "first/learned.safetensors").read_text() == "old"


def test_what_was_learned_by_a_job_that_then_failed_is_what_others_go_on_from(tmp_path):
  """The job learns more and fails in its last evaluation. Next time it finds itself finished, and only evaluates."""
  code = LEARN.replace("'learned.safetensors'", "'{1}.safetensors'") + "\nsys.exit({2})"

  def chain(word, exit_code=0):
    return [Learner("first", flags={"code": code.format("first", word, exit_code)}), learners(word)[1]]

  assert run(chain("old"), tmp_path)
  assert not run(chain("new", exit_code="'the arm is off'"), tmp_path)
  assert run(chain("new"), tmp_path)
  read = lambda name: (tmp_path / name / "learned.safetensors").read_text()  # noqa: E731
  assert (read("next"), read("next.1")) == ("new", "old")


def test_a_locked_folder_is_not_set_aside_and_other_jobs_run(tmp_path):
  assert run(learners("old"), tmp_path)
  shutil.rmtree(tmp_path / "first")
  other = script("other", SAY.format("other"))
  with lock_lib.alone(tmp_path / "next"):
    assert not run([*learners("new"), other], tmp_path)
  assert states([*learners("new"), other], tmp_path) == {
    "first": job_folder.DONE, "next": job_folder.LEFT, "other": job_folder.DONE
  }  # fmt: skip
  assert (tmp_path / "next/learned.safetensors").read_text() == "old"


def test_a_job_waits_for_what_its_command_does_not_name(tmp_path):
  column, test = plan.Job("column"), plan.Job("test", "navigate", flags={"runs": "{column}"})
  figure = plan.figures("figure", "nav", [column], after=[test])
  assert figure.needs() == ("column", "test")
  assert figure.command({"column": "w/column", "figure": "w/figure"})[3:] == [
    *("--figure=nav", "--runs=w/column", "--out=w/figure")
  ]
  with pytest.raises(ValueError, match="'figure' needs {test}, but no job is called that"):
    plan.check([column, figure])
  folder = job_folder.Folder(tmp_path, [column, test, figure])
  for made in ("column", "figure"):
    (tmp_path / made).mkdir()
  before = plan.figures("figure", "nav", [column])
  for job in (column, test, before):
    folder.write(job, job_folder.Record(job_folder.DONE, job_folder.as_json(job)))
  assert states([column, test, before], tmp_path)["figure"] == job_folder.DONE
  assert states([column, test, figure], tmp_path)["figure"] == job_folder.LEFT  # The figure was drawn without the test.


def test_a_failed_job_blocks_only_its_dependents(tmp_path, capsys):
  jobs = [
    script("bad", "print('so far'); raise SystemExit('error: no such thing')"),
    script("needy", SAY.format("needy"), after=["bad"]),
    script("other", SAY.format("other")),
  ]
  assert not run(jobs, tmp_path)
  assert states(jobs, tmp_path) == {"bad": job_folder.FAILED, "needy": job_folder.LEFT, "other": job_folder.DONE}
  assert (tmp_path / "order").read_text() == "other "
  assert "bad: failed" in capsys.readouterr().out
  rows = job_folder.table(jobs, job_folder.Folder(tmp_path, jobs)).splitlines()
  assert rows[1].endswith("error: no such thing") and rows[2].endswith("waits for bad")


def test_jobs_run_side_by_side_each_on_its_device(tmp_path):
  wait = (
    "import os, pathlib, sys, time\n"
    "pathlib.Path(sys.argv[1], '{0}.here').touch()\n"
    "while not pathlib.Path(sys.argv[1], '{1}.here').exists(): time.sleep(0.05)\n"
    "print(sorted(os.sched_getaffinity(0)))"
  )
  jobs = [script("a", wait.format("a", "b")), script("b", wait.format("b", "a"))]
  assert run(jobs, tmp_path, num_devices=2)
  assert (tmp_path / "a.log").read_text().splitlines()[-1] == str([CORE])
  with pytest.raises(ValueError, match="'big' asks for devices=3, but there are 2"):
    run([script("big", "", devices=3)], tmp_path, num_devices=2)


def test_jobs_share_a_card_and_its_memory(tmp_path, monkeypatch):
  """A card is a file that `devices` finds. The jobs wait until both run, and write what they were given."""
  card = tmp_path / "dev" / "nvidia0"
  card.parent.mkdir()
  card.touch()
  monkeypatch.setattr(jobs_lib.pathlib, "Path", lambda path: card.parent if path == "/dev" else pathlib.Path(path))
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  meet = (
    "import os, pathlib, sys, time; here = pathlib.Path(sys.argv[1]); mine = here / f'{os.getpid()}.seen';"
    "mine.write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.environ['XLA_PYTHON_CLIENT_MEM_FRACTION']);"
    "until = time.time() + 30\n"
    "while len(list(here.glob('*.seen'))) < 2 and time.time() < until: time.sleep(0.01)\n"
    "sys.exit(len(list(here.glob('*.seen'))) < 2)"
  )
  devices, jobs = jobs_lib.devices(2), [script("a", meet), script("b", meet)]
  monkeypatch.undo()
  folder = job_folder.Folder(tmp_path / "w", jobs)
  assert jobs_lib.run(jobs, folder, devices=devices)
  assert [file.read_text() for file in (tmp_path / "w").glob("*.seen")] == ["0 0.450", "0 0.450"]
  with pytest.raises(ValueError, match="'big' asks for devices=2, and those are not shared"):
    jobs_lib.run([script("big", "", devices=2)], folder, devices=devices)


@pytest.mark.parametrize(
  ("visible", "names"),
  [
    (None, ["0", "1"]),  # A container may show cards 3 and 5: CUDA counts them from 0.
    ("1", ["1"]),
    ("0, 1", ["0", "1"]),
    ("GPU-8932f937,MIG-7", ["GPU-8932f937", "MIG-7"]),
    ("", None),  # No cards may be used, so cores are.
    ("-1", None),
  ],
)
def test_cards_are_called_as_cuda_calls_them(tmp_path, monkeypatch, visible, names):
  for name in ("nvidia3", "nvidia5", "nvidiactl", "nvidia-uvm"):
    (tmp_path / name).touch()
  monkeypatch.setattr(jobs_lib.pathlib, "Path", lambda path: tmp_path if path == "/dev" else pathlib.Path(path))
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  if visible is not None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  found = jobs_lib.devices()
  if names is None:
    assert found and all(device.is_core for device in found)
  else:
    assert [device.name for device in found] == names and not any(device.is_core for device in found)


def test_a_job_gets_the_card_of_which_most_is_free_and_no_more_run_than_asked(tmp_path, monkeypatch):
  """Two jobs share each of two cards. `after` starts when `short` ends, and `long` waits for it on the other card."""
  wait = "\nwhile not (here / '{}').exists(): time.sleep(0.02)"
  say = (
    "import os, pathlib, sys, time; here = pathlib.Path(sys.argv[1])\n"
    "(here / '{}').write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
  )
  jobs = [
    script("long", say.format("long") + wait.format("after")),
    script("short", say.format("short") + wait.format("long")),
    script("after", say.format("after"), after=["short"]),
  ]
  folder = job_folder.Folder(tmp_path, jobs)
  assert jobs_lib.run(jobs, folder, devices=[jobs_lib.Device(name, False, 0.5) for name in "01"] * 2)
  card = {name: (tmp_path / name).read_text() for name in ("long", "short", "after")}
  assert card["long"] != card["short"] == card["after"]

  most = []
  process = jobs_lib._Process
  monkeypatch.setattr(jobs_lib, "_Process", lambda *args, **kw: most.append(time.monotonic()) or process(*args, **kw))
  slow = [script(name, "import time; time.sleep(0.3)") for name in "xyz"]
  devices = [jobs_lib.Device(str(CORE), True)] * 3
  assert jobs_lib.run(slow, job_folder.Folder(tmp_path / "one", slow), devices=devices, num_jobs=1)
  assert min(late - soon for soon, late in itertools.pairwise(most)) >= 0.3


def test_cards_and_cores_are_told_apart_and_shares_add_up(tmp_path):
  """Jobs of other launchers have core 0, half of card 0 and all of card 1."""
  job = script("a", "")
  folder = job_folder.Folder(tmp_path, [job])
  with contextlib.ExitStack() as logs:
    here = socket.gethostname()
    taken = ({"core 0": 1.0, "card 0": 0.5}, here), ({"card 1": 1.0}, here), ({"core 1": 1.0}, "elsewhere")
    for other, (devices, host) in zip("xyz", taken, strict=True):
      fcntl.flock(logs.enter_context(folder.log(script(other, "")).open("a")), fcntl.LOCK_EX)
      folder.write(script(other, ""), job_folder.Record(job_folder.RUNNING, host=host, devices=devices))

    def free(*names, is_core=False, share=1.0):
      return [one.name for one in jobs_lib._free([jobs_lib.Device(name, is_core, share) for name in names], folder)]

    assert free("0", "1", is_core=True) == ["1"]
    assert free("0", "1", "2") == ["2"]
    assert free(*"012" * 2, share=0.5) == ["2", "2", "0"]  # The one of which most is free comes first.
    assert free(*"012" * 3, share=1 / 3) == ["2", "2", "2", "0"]
  assert free("0", "1", is_core=True) == ["0", "1"]  # Nobody holds the logs any more.


def test_launchers_take_devices_one_after_the_other(tmp_path, monkeypatch):
  job, make = script("a", ""), jobs_lib._Process

  def make_alone(job, folder, devices):
    with folder.choosing() as may_choose:
      assert not may_choose
    return make(job, folder, devices)

  monkeypatch.setattr(jobs_lib, "_Process", make_alone)
  monkeypatch.setattr(jobs_lib, "_LOOK_S", 0.1)
  folder = job_folder.Folder(tmp_path, [job])
  with folder.choosing() as may_choose:  # Another launcher.
    assert may_choose and not run([job], tmp_path, hours=1e-4)
  assert run([job], tmp_path)


def test_a_job_that_has_ended_and_is_not_yet_written_down_is_not_taken_for_a_killed_one(tmp_path, monkeypatch):
  seen = []
  save = jobs_lib._Process._save

  def late(process, state, code):
    if state == job_folder.DONE:
      seen.append(job_folder.Folder(tmp_path, [process.job]).states()["a"])
    save(process, state, code)

  monkeypatch.setattr(jobs_lib._Process, "_save", late)
  assert run([script("a", "")], tmp_path) and seen == [job_folder.RUNNING]


def test_a_job_that_needs_many_devices_is_not_overtaken_for_ever(tmp_path):
  """It is ready when the first job ends, with one device free, and narrow jobs wait."""
  narrow = [script(f"s{i}", SAY.format(f"s{i}") + "; import time; time.sleep(0.3)") for i in range(4)]
  jobs = [
    script("wide", SAY.format("wide"), after=["first"], devices=2),
    script("first", SAY.format("first")),
    *narrow,
  ]
  assert run(jobs, tmp_path, num_devices=2)
  order = (tmp_path / "order").read_text().split()
  assert order.index("wide") == 2 and sorted(order[:2]) == ["first", "s0"]


def test_what_another_launcher_has_done_meanwhile_is_not_done_again(tmp_path, monkeypatch):
  jobs = [script("a", SAY.format("a")), script("b", SAY.format("b"))]
  choose = jobs_lib._ready

  def late(*args):
    chosen = choose(*args)
    monkeypatch.setattr(jobs_lib, "_ready", choose)
    assert run(jobs, tmp_path)  # Another launcher runs them after this one has looked.
    return chosen

  monkeypatch.setattr(jobs_lib, "_ready", late)
  assert run(jobs, tmp_path) and (tmp_path / "order").read_text() == "a b "


def test_reading_a_job_state_does_not_block_its_start(tmp_path):
  job = script("a", SAY.format("a"))
  folder = job_folder.Folder(tmp_path, [job])
  with folder.log(job).open("a") as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    threading.Timer(0.5 * job_folder._PATIENCE_S, lambda: fcntl.flock(log, fcntl.LOCK_UN)).start()
    assert run([job], tmp_path)


def test_a_process_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
  """At a limit of processes `fork` fails like this, with the message of a taken lock."""

  def fail(*_, **__):
    raise BlockingIOError("Resource temporarily unavailable")

  monkeypatch.setattr(jobs_lib.subprocess, "Popen", fail)
  with pytest.raises(BlockingIOError, match="temporarily"):
    run([script("a", "pass")], tmp_path)


def test_a_record_that_cannot_be_written_leaves_no_job_unwatched(tmp_path, monkeypatch):
  """The disk is full when one job ends. The other job is stopped, and its record says so."""
  wait = "import time; time.sleep(300)"
  jobs = [script("short", "pass"), script("long", wait)]
  write = job_folder.Folder.write

  def full(folder, job, record):
    if job.name == "short" and record.state == job_folder.DONE:
      raise OSError("No space left on device")
    write(folder, job, record)

  monkeypatch.setattr(job_folder.Folder, "write", full)
  with pytest.raises(OSError, match="No space left"):
    run(jobs, tmp_path, num_devices=2)
  assert job_folder.Folder(tmp_path, jobs).stored("long").state == job_folder.STOPPED


def test_the_folder_of_a_job_is_where_it_writes():
  soup = plan.Job("soup", "matrix")
  cell = plan.Job("cell", "matrix", flags={"workdir": "{soup}", "cell": "white"})
  figure = plan.figures("figure", "pnn", [cell])
  folder = job_folder.Folder(pathlib.Path("w"), [soup, cell, figure])
  assert folder.command(figure)[3:] == ["--figure=pnn", "--runs=w/soup", "--out=w/figure"]
  assert folder.command(cell)[3:] == ["--workdir=w/soup", "--cell=white"]


def test_cores_are_not_shared(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  with pytest.raises(ValueError, match="--share=2: there are cores here"):
    jobs_lib.devices(2)


def test_when_time_is_up_jobs_stop_and_go_on_at_the_next_start(tmp_path):
  code = (
    "import pathlib, signal, sys, time\n"
    "saved = pathlib.Path(sys.argv[1], 'saved')\n"
    "signal.signal(signal.SIGTERM, lambda *_: (saved.touch(), sys.exit(143)))\n"
    "print('at work', flush=True)\n"
    "if not saved.exists(): time.sleep(300)"
  )
  jobs = [script("long", code), script("next", "pass")]
  assert not run(jobs, tmp_path, hours=3.0 / 3600.0)
  assert states(jobs, tmp_path) == {"long": job_folder.STOPPED, "next": job_folder.LEFT}
  first = job_folder.Folder(tmp_path, jobs).read()["long"].hours
  assert run(jobs, tmp_path)
  assert job_folder.Folder(tmp_path, jobs).read()["long"].hours > first > 0.0


@pytest.mark.parametrize(
  ("code", "state"),
  [
    ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)", job_folder.STOPPED),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", job_folder.FAILED),  # The system kills it.
  ],
)
def test_a_job_that_ignores_sigterm_is_killed_and_may_continue(tmp_path, monkeypatch, code, state):
  monkeypatch.setattr(jobs_lib, "_GRACE_S", 0.5)
  jobs = [script("deaf", code)]
  assert not run(jobs, tmp_path, hours=2.0 / 3600.0)
  assert states(jobs, tmp_path) == {"deaf": state}


LASTING = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
LAUNCHER = """
import pathlib, sys
from tests.experiments.running import jobs_test
jobs_test.run([jobs_test.script("long", jobs_test.LASTING)], pathlib.Path(sys.argv[1]))
"""


def wait_for(condition):
  until_s = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < until_s
    time.sleep(0.05)


def test_a_job_whose_launcher_was_killed_runs_on_and_is_not_started_twice(tmp_path, monkeypatch, capsys):
  (job,) = jobs = [script("long", LASTING)]
  folder = job_folder.Folder(tmp_path, jobs)
  launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)], cwd=conftest.ROOT)
  wait_for(lambda: folder.log(job).exists() and folder.log(job).read_text().splitlines()[-1:][0].isdigit())
  launcher.kill()
  launcher.wait()
  assert states(jobs, tmp_path) == {"long": job_folder.RUNNING}
  assert not run(jobs, tmp_path)
  # It keeps its place: where there is a second one another job runs beside it, and with one place another waits.
  pid, began = int(folder.log(job).read_text().splitlines()[-1]), tmp_path / "began"
  monkeypatch.setattr(jobs_lib, "_LOOK_S", 0.1)
  say = "import os, pathlib, sys; pathlib.Path(sys.argv[1], 'began').touch(); print('ran')"
  assert run([script("beside", "print('ran')")], tmp_path, num_devices=2)
  killer = threading.Timer(1.0, lambda: os.kill(pid, signal.SIGKILL) if not began.exists() else None)
  killer.start()
  assert run([script("after", say)], tmp_path, num_devices=1)
  killer.join()
  assert "waiting: jobs that another launcher started in" in capsys.readouterr().out
  wait_for(lambda: states(jobs, tmp_path) == {"long": job_folder.STOPPED})
