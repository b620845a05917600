"""The report shows what the runs hold. The demo's command runs from a column to a report through the real bridge."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from dm_env import specs

from experiments import demo as demo_binary
from experiments.configs import jaco_corl2017
from experiments.report import video
from experiments.setup import column
from experiments.store import network_file, released
from experiments.studies.corl2017 import demo, demo_report
from progressive import network

ROOT = pathlib.Path(__file__).resolve().parents[4]


def columns():
  """The config's two columns."""
  observations = {"pixels": specs.Array((64, 64, 3), np.uint8)}
  configs = (jaco_corl2017.get_config(variant) for variant in ("column", "progressive"))
  return tuple(column.make(config.train.column, observations, (3,) * 9) for config in configs)


def make_run(path, method, spec, level):
  path.mkdir(parents=True)
  (path / "config.json").write_text(json.dumps({"method": method, "world": "twin/reach/random"}))
  (path / "provenance.json").write_text(json.dumps({"command": f"command of {method}", "commit": "abc", "seed": 0}))
  network_file.write_spec(path, spec)
  (path / "checkpoints").mkdir()
  (path / "checkpoints/2000.safetensors").touch()
  frames = [np.full((64, 64, 3), 40 * t, np.uint8) for t in range(3)]
  video.write(path / "videos/step_2000.mp4", frames, frames_per_s=10)
  lines = [
    {"step": step, "wall_s": step / 100, "kind": "episode", "return": level, "length": 50.0}
    for step in range(50, 2001, 50)
  ]
  means = {"return_mean": level + 1, "return_ci_low": level, "return_ci_high": level + 2, "episodes": 10.0}
  lines.append({"step": 2000, "wall_s": 20.0, "kind": "eval", **means})
  (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def workdir(tmp_path):
  wide, narrow = columns()
  for method, level, learned in (
    ("progressive", 31.0, (wide, narrow)),
    ("finetune", 17.0, (wide,)),
    ("scratch", 0.0, (narrow,)),
  ):
    make_run(tmp_path / "demo" / method, method, network.Network(learned), level)
  evaluated = {"unchanged": 12.5, "progressive": 37.0, "finetune": 9.0, "scratch": 1.0}
  for name, mean in evaluated.items():
    folder = name if name == "unchanged" else f"in_simulation/{name}"
    (tmp_path / "demo" / folder).mkdir(parents=True)
    known = {"mean_return": mean, "return_ci_low": mean - 1.5, "return_ci_high": mean + 1.5, "episodes": 10}
    known["world"] = "twin/reach/random" if name == "unchanged" else "jaco/reach/random"
    (tmp_path / "demo" / folder / "evaluation.json").write_text(json.dumps(known))
  return tmp_path / "demo"


def test_the_report_holds_what_the_runs_hold(workdir):
  summary = demo_report.write(workdir, task="reach/random", source=pathlib.Path("nowhere"))
  said = "31.0 while learning, 32.0 [31.0, 33.0] afterwards; back in simulation 37.0 [35.5, 38.5]"
  assert summary["progressive network"] == said
  assert summary["the column, unchanged"] == "12.5 [11.0, 14.0]"
  page = (workdir / "report.html").read_text()
  text = re.sub(r"base64,[^\"]*", "", page)
  for expected in ("31.0", "17.0", "298,700", "36,940", "335,640", "command of finetune", "finetune, wide (paper)"):
    assert expected in text, expected
  for explained in (
    "one run of each of our methods",
    "(10 episodes)",
    "Each point is the mean return of 1,000 steps",
    "The dashed line is the mean return of the unchanged column",
  ):
    assert explained in text, explained
  (row,) = re.findall("<tr><td>the column, unchanged</td>(.*?)</tr>", text)
  assert re.findall('<td data-column="(.*?)">(.*?)</td>', row) == [
    ("while learning", "–"),
    ("afterwards", "12.5"),
    ("95 % interval", "[11.0, 14.0]"),
    ("episodes", "10"),
    ("back in simulation", "–"),
  ]
  assert page.count("data:video/mp4") == 3 and page.count("data:image/png") == 6
  assert not re.findall(r'(?:src|href)="(?!data:)', page)  # The report is one file.


def test_a_finished_run_is_not_repeated(workdir):
  assert demo.is_finished(workdir / "finetune", 2000) and not demo.is_finished(workdir / "finetune", 2001)
  assert not demo.is_finished(workdir / "nothing", 1)


def test_other_episodes_than_a_finished_run_was_evaluated_in_are_refused(workdir):
  with pytest.raises(ValueError, match="finetune was evaluated in .* episodes, not 3: give --evaluation_episodes="):
    demo.transfer(workdir, "finetune", task="reach/random", source="x", steps=2000, episodes=3)


def test_a_run_that_was_not_evaluated_is_not_finished(workdir, tmp_path):
  path = tmp_path / "finetune"
  shutil.copytree(workdir / "finetune", path)
  assert demo.is_finished(path, 2000)
  kept = [line for line in (path / "metrics.jsonl").read_text().splitlines() if '"eval"' not in line]
  (path / "metrics.jsonl").write_text("\n".join([*kept, ""]))
  assert not demo.is_finished(path, 2000)


def save_column(path, level):
  spec = network.Network(columns()[:1])
  params = jax.tree.map(lambda x: np.full(x.shape, level, x.dtype), network.params_like(spec))
  released.save(path, spec, params, evaluation={}, provenance={})


def test_parts_of_another_column_are_refused(workdir, tmp_path, monkeypatch):
  monkeypatch.setattr(demo, "_run", lambda module, path, flags: pytest.fail(f"{path} is begun"))
  save_column(tmp_path / "column", 0)
  save_column(tmp_path / "other", 1)
  for method in demo.METHODS:
    config = {"method": method, "world": "twin/reach/random", "train": {"teacher": str(tmp_path / "column")}}
    (workdir / method / "config.json").write_text(json.dumps(config))

  def refused(source, task="reach/random"):
    with pytest.raises(ValueError, match="; remove .*, or give another --workdir") as error:
      demo.run(workdir, task=task, source=str(tmp_path / source), steps=2000, episodes=10)
    return str(error.value)

  demo.check_parts(workdir, source=str(tmp_path / "column"), task="reach/random")
  said = refused("other")
  assert all(f"{method} is of {tmp_path}/column" in said for method in demo.METHODS)
  assert f"remove {workdir}/unchanged {workdir}/progressive" in said and "report.html" not in said
  shutil.copy(tmp_path / "column/provenance.json", workdir / "unchanged")
  demo.check_parts(workdir, source=str(tmp_path / "column"), task="reach/random")
  said = refused("column", task="reach/fixed")
  assert all(f"{part} is in twin/reach/random" in said for part in ("unchanged", *demo.METHODS))
  save_column(tmp_path / "column", 2)  # As --from_scratch with more --train_steps would leave it.
  assert "(unchanged has other parameters)" in refused("column")
  shutil.rmtree(workdir / "scratch/checkpoints")  # A run that learned nothing restarts with any column.
  assert "scratch is of" not in refused("other")


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (["column", "from_scratch"], "--column=x is not read with --from_scratch"),
    (["train_steps"], "--train_steps=7 is not read without --from_scratch"),
  ],
)
def test_a_flag_that_would_do_nothing_is_refused(tmp_path, monkeypatch, given, said):
  monkeypatch.setattr(demo, "_run", lambda module, path, flags: pytest.fail(f"{path} is begun"))
  values = {"column": "x", "from_scratch": "true", "train_steps": "7"}
  flags.FLAGS.mark_as_parsed()
  given = {name: values[name] for name in given} | {"workdir": str(tmp_path)}
  with flagsaver.as_parsed(**given), pytest.raises(ValueError, match=said):
    demo_binary.main()


def test_a_signal_ends_the_runs_and_starts_no_other(tmp_path, monkeypatch):
  (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(600)\n")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  begun = []

  def transfer(workdir, method, **_):
    begun.append(method)
    demo._run("sleeper", workdir, {})

  def evaluate(path, **_):
    while not demo._children:
      time.sleep(0.01)
    raise SystemExit(143)  # `stop` raises this in the main thread, which waits for this result.

  monkeypatch.setattr(demo, "transfer", transfer)
  monkeypatch.setattr(demo, "evaluate", evaluate)
  with pytest.raises(SystemExit):
    demo.run(tmp_path, task="reach/random", source="nowhere", steps=1, episodes=1)
  assert not demo._children and "scratch" not in begun


def test_main(tmp_path, capsys):
  spec = network.Network(columns()[:1])
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), network.params_like(spec))
  source = tmp_path / "column"
  released.save(source, spec, params, evaluation={"mean_return": 1.5}, provenance={"training": [], "reward_scale": 1.0})
  command = [sys.executable, "-m", "experiments.demo", f"--workdir={tmp_path}/demo", f"--column={source}"]
  command += ["--steps=60", "--evaluation_episodes=1"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == f"report: {tmp_path}/demo/report.html"
  assert "mean_return: 1.5" in (tmp_path / "demo/report.html").read_text()
  configs = [json.loads((tmp_path / "demo" / method / "config.json").read_text()) for method in demo.METHODS]
  assert [config["train"]["teacher"] for config in configs] == [str(source)] * 3
  back = [json.loads((tmp_path / "demo/in_simulation" / m / "evaluation.json").read_text()) for m in demo.METHODS]
  assert [(one["world"], one["episodes"]) for one in back] == [("jaco/reach/random", 5)] * 3
  demo.check_kept(tmp_path / "demo/progressive", str(source))
  other = jax.tree.map(np.ones_like, params)
  released.save(tmp_path / "other", spec, other, evaluation={}, provenance={})
  with pytest.raises(ValueError, match="the columns of .*other are not what they were"):
    demo.check_kept(tmp_path / "demo/progressive", str(tmp_path / "other"))
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(workdir=f"{tmp_path}/demo", column=str(source), steps=60, evaluation_episodes=1):
    demo_binary.main()
  assert capsys.readouterr().out.count("is finished") == 7
