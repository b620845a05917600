"""The ladder's table from released networks: whose returns, which columns, and whether their content is the same."""

import jax
import numpy as np
import pytest
from dm_env import specs

from experiments.configs import base
from experiments.setup import column
from experiments.store import released
from experiments.studies import figures
from experiments.studies.corl2017 import ladder
from progressive import network


@pytest.fixture(scope="module")
def grown():
  """Networks of one and of two columns. The second contains the first's parameters."""
  observed = {"target": specs.Array((3,), np.float32)}
  config = base.column(inputs=("target",), conv=(), dense=(4,), lstm=())
  one = network.Network((column.make(config, observed, (3,)),))
  two = network.Network(one.columns * 2)
  params = jax.tree.map(np.asarray, network.init(jax.random.key(0), two))
  return (one, params[:1]), (two, params)


def release(path, of, task, mean):
  evaluation = {
    "mean_return": mean,
    "return_ci_low": mean - 1,
    "return_ci_high": mean + 1,
    "world": task,
    "episodes": 3,
  }
  released.save(path, *of, evaluation=evaluation, provenance={"evaluation": {"command": "evaluate", "seed": 0}})
  return str(path)


def test_columns_by_tasks_with_their_growth(tmp_path, grown):
  one, two = grown
  paths = [release(tmp_path / "a", one, "twin/catch", 5.0), release(tmp_path / "b", two, "twin/catch", 30.0)]
  paths.append(release(tmp_path / "c", two, "twin/conveyor", 20.0))
  drawn = figures.make("talk_ladder", ladder.read(paths))
  assert drawn.statistics["column 1"] == {"twin/catch": (5.0, 4.0, 6.0), "twin/conveyor": "not run"}
  assert drawn.statistics["column 2"]["twin/conveyor"] == (20.0, 19.0, 21.0)
  assert drawn.gaps == {"column 1 on twin/conveyor": "not run"}
  growth = drawn.more_tables["growth"]
  # dense1: 3 x 4 + 4; output: 4 x (3 + 1) + 4.
  assert growth["column 1"]["parameters"] == "36" and growth["column 1"]["of them in laterals"] == "0"
  assert growth["column 1"]["content (SHA-256)"].endswith("the same in 3 of 3 networks")
  assert growth["column 2"]["content (SHA-256)"].endswith("the same in 2 of 2 networks")
  assert int(growth["column 2"]["parameters"]) - int(growth["column 2"]["of them in laterals"]) == 36
  lines = {line.get_label(): line.get_xydata() for line in drawn.picture.axes[0].lines}
  np.testing.assert_allclose(lines["twin/catch"], [[1, 5.0], [2, 30.0]])


def test_two_networks_of_one_size_on_one_task_are_refused(tmp_path, grown):
  for name, mean in (("a", 5.0), ("b", 30.0)):
    release(tmp_path / name, grown[0], "twin/catch", mean)
  with pytest.raises(ValueError, match="a and .*b are networks of 1 columns each on twin/catch; leave one out"):
    ladder.draw(ladder.read([f"{tmp_path}/*"]))


def test_every_task_has_a_line_and_a_folder_may_be_named_by_a_glob(tmp_path, grown):
  """The arm has eight tasks. A folder that two patterns match is read once."""
  for i in range(8):
    release(tmp_path / f"net_{i}", grown[0], f"twin/{i}", float(i))
  lines = ladder.draw(ladder.read([f"{tmp_path}/net_*", f"{tmp_path}/net_0"])).picture.axes[0].lines
  assert [line.get_ydata()[0] for line in lines] == list(range(8))
  assert len({line.get_color() for line in lines}) == 8
  with pytest.raises(ValueError, match="nothing_"):
    ladder.read([f"{tmp_path}/nothing_*"])


def test_a_column_that_has_changed_is_seen(tmp_path, grown):
  one, two = grown
  changed = jax.tree.map(np.array, one[1])
  jax.tree.leaves(changed)[0].flat[0] += 1e-6
  paths = [
    release(tmp_path / "a", (one[0], changed), "twin/catch", 5.0),
    release(tmp_path / "b", two, "twin/catch", 6.0),
  ]
  content = ladder.draw(ladder.read(paths)).more_tables["growth"]["column 1"]["content (SHA-256)"]
  assert content.endswith("the same in 1 of 2 networks")


def test_a_release_that_does_not_say_how_it_was_evaluated_is_refused(tmp_path, grown):
  release(tmp_path / "a", grown[0], "twin/catch", 5.0)
  (tmp_path / "a" / "provenance.json").write_text("{}")
  with pytest.raises(ValueError, match="a does not say how it was evaluated; write it by experiments.evaluate"):
    ladder.read([str(tmp_path / "a")])


def test_a_release_that_has_not_played_is_refused(tmp_path, grown):
  released.save(tmp_path, *grown[0], evaluation={"late_return": 3.0}, provenance={})
  with pytest.raises(ValueError, match="evaluation.json has no 'mean_return'; name a folder that experiments.evaluate"):
    ladder.read([str(tmp_path)])
