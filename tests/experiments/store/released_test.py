"""A released network is what was released, published or new. One whose content is another's is refused."""

import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from experiments.store import released, run_directory
from progressive import column, layers, network, partition

PUBLISHED = pathlib.Path(released.__file__).parents[1] / "released"
COLUMN = column.Column((("x", (3,)),), (layers.Dense("output", ("x",), size=2, activation=None),))
SPEC = network.Network((COLUMN,))


def release(folder, seed=0):
  params = network.init(jax.random.key(seed), SPEC)
  released.save(folder, SPEC, params, evaluation={}, provenance={"commit": "abc"})
  return params


@pytest.mark.parametrize(
  ("name", "reward_scale"), [("jaco_corl2017", 1.0), ("jaco_corl2017_plain", 0.1), ("jaco_talk", 0.1), ("pong", 1.0)]
)
def test_a_published_column_is_bitwise_what_was_published(name, reward_scale):
  """The scales are those of the configs at the commits that their provenance names. The first config had none yet."""
  source = released.load(PUBLISHED / name)
  params = source.params
  assert source.reward_scale == reward_scale and source.heads is None
  published = json.loads((PUBLISHED / name / "provenance.json").read_text())["content_sha256"]
  assert partition.content_hash(params) == published
  with safetensors.safe_open(PUBLISHED / name / "params.safetensors", framework="np") as saved:
    assert {"/".join(map(str, path)) for path in partition.paths(params)} == set(saved.keys())


def test_one_hash_stands_in_the_file_s_head_and_in_the_provenance(tmp_path):
  params = release(tmp_path)
  expected = partition.content_hash(params)
  with safetensors.safe_open(tmp_path / "params.safetensors", framework="np") as saved:
    assert saved.metadata() == {"content_sha256": expected}
    np.testing.assert_array_equal(saved.get_tensor("0/output/kernel"), params[0]["output"]["kernel"])
  assert json.loads((tmp_path / "provenance.json").read_text()) == {"commit": "abc", "content_sha256": expected}
  assert partition.content_hash(released.load(tmp_path).params) == expected


def test_parameters_of_another_release_are_refused_by_name(tmp_path):
  hashes = [partition.content_hash(release(tmp_path / name, seed)) for seed, name in enumerate("ab")]
  shutil.copy(tmp_path / "a/params.safetensors", tmp_path / "b")
  with pytest.raises(ValueError, match=rf"b/params.safetensors is not .*{hashes[0][:12]}\.\.\., not {hashes[1][:12]}"):
    released.load(tmp_path / "b")


def test_changed_parameters_are_refused(tmp_path):
  release(tmp_path)
  file = tmp_path / "params.safetensors"
  data = bytearray(file.read_bytes())
  data[-1] ^= 1
  file.write_bytes(data)
  with pytest.raises(ValueError, match="params.safetensors is not what was released"):
    released.load(tmp_path)


def test_unreadable_parameters_are_not_released(tmp_path):
  params = network.init(jax.random.key(0), SPEC)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  with pytest.raises(ValueError, match="would hold bfloat16, and is read as float32; cast the parameters"):
    released.save(tmp_path / "a", SPEC, half, evaluation={}, provenance={})
  with pytest.raises(ValueError, match="params has 2 columns and spec 1"):
    released.save(tmp_path / "a", SPEC, params * 2, evaluation={}, provenance={})
  assert not (tmp_path / "a").exists()


def test_a_run_is_not_overwritten_by_a_release(tmp_path):
  """Readers of its directory would read the release from then on, however far the run learns."""
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError, match="is the directory of a run; release its network to a folder of its own"):
    released.save(tmp_path, None, None, evaluation={}, provenance={})
  assert [one.name for one in tmp_path.iterdir()] == ["config.json"]
  with pytest.raises(ValueError, match="config.json/mine cannot be written: .*config.json is no folder"):
    released.refuse_folder(tmp_path / "config.json/mine")


def test_a_lineage_goes_on_after_source_and_run_were_moved(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  release(tmp_path / "old/source")
  run_directory.write_json(tmp_path / "old/source/provenance.json", {"training": [{"steps": 5}]})
  run = tmp_path / "old/run"
  run.mkdir()
  run_directory.write_json(run / "config.json", {"method": "progressive", "source": "old/source"})
  run_directory.write_json(run / "provenance.json", {"source": "../source"})
  (tmp_path / "old").rename(tmp_path / "new")
  monkeypatch.chdir("/")
  assert [one["steps"] for one in released.lineage(tmp_path / "new/run", steps=7)] == [5, 7]


def test_an_empty_source_is_not_the_current_folder(tmp_path, monkeypatch):
  release(tmp_path)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(
    ValueError, match="no network is named to start from, as all methods but scratch do; set --config.source"
  ):
    released.load_source("")


def test_a_lineage_whose_source_is_gone_says_so_and_goes_on(tmp_path, capsys):
  run_directory.write_json(tmp_path / "config.json", {"method": "finetune", "source": "gone"})
  run_directory.write_json(tmp_path / "provenance.json", {"source": "../gone", "commit": "abc"})
  before, own = released.lineage(tmp_path, steps=7)
  assert before == {"steps": None, "commit": "unknown", "source": str(tmp_path / "../gone")}
  assert own["steps"] == 7 and own["commit"] == "abc"
  assert re.fullmatch(r"warning: \S*/gone is gone, [^\n]*\n", capsys.readouterr().err)


def test_a_lineage_does_not_take_another_release_for_the_one_that_was_started_from(tmp_path, capsys):
  source, run = tmp_path / "source", tmp_path / "run"
  run.mkdir()
  run_directory.write_json(run / "config.json", {"method": "finetune", "source": "source"})
  first = partition.content_hash(release(source))
  provenance = {"source": "../source", "commit": "abc", "source_steps": None, "source_content_sha256": first}
  run_directory.write_json(run / "provenance.json", provenance)
  training = {"training": [{"steps": 5}], "content_sha256": first}
  run_directory.write_json(source / "provenance.json", training)
  assert [one["steps"] for one in released.lineage(run, steps=7)] == [5, 7] and capsys.readouterr().err == ""
  other = partition.content_hash(release(source, seed=1))
  run_directory.write_json(source / "provenance.json", training | {"content_sha256": other})
  assert [one["steps"] for one in released.lineage(run, steps=7)] == [None, 7]
  assert re.fullmatch(r"warning: \S*/source was made anew, [^\n]*\n", capsys.readouterr().err)
