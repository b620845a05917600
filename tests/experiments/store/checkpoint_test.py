"""What was saved comes back bit for bit, under any path. What cannot be saved or read loses nothing."""

import dataclasses
import hashlib
import json
import resource

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from dm_env import specs

from experiments.configs import base
from experiments.setup import column
from experiments.store import arrays_file, checkpoint
from progressive import network

STATE = {"x": np.arange(3.0)}


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_kind_of_array_comes_back_bit_for_bit(tmp_path):
  state = {
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(4), 2),
    "flag": np.array(True),
    "scalar": np.int32(7),
    "half": np.arange(4).astype(ml_dtypes.bfloat16),
    "turned": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
    "empty": np.zeros((0, 3), np.float32),
    "not a number": np.array([np.nan, -0.0, np.inf], np.float32),
    "layers": ({"w": jnp.ones((2, 2))}, None),
  }
  checkpoint.save(tmp_path, 5, state)
  step, arrays = checkpoint.load_newest(tmp_path)
  like = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state))
  again = checkpoint.unflatten(arrays, like, source="here")
  assert step == 5 and jax.tree.structure(again) == jax.tree.structure(state)
  np.testing.assert_array_equal(jax.random.normal(again["key"]), jax.random.normal(jax.random.key(3)))
  for name in ("flag", "scalar", "half", "turned", "empty", "not a number"):
    one, other = np.asarray(again[name]), np.asarray(state[name])
    assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


def test_a_folder_that_a_larger_sweep_has_left_is_no_run_of_this_one(tmp_path):
  checkpoint.save(tmp_path / "checkpoints", 5, {"x": np.arange(8.0).reshape(4, 2)})
  with pytest.raises(ValueError, match="runs/03 has no checkpoint"):  # A run has taken a sweep's place.
    checkpoint.load_own(tmp_path / "runs/03")
  (tmp_path / "config.json").write_text('{"sweep": {}}')
  step, arrays, _ = checkpoint.load_own(tmp_path / "runs/03")
  assert step == 5 and [list(array) for array in arrays.values()] == [[6.0, 7.0]]
  with pytest.raises(ValueError, match="runs/07 is no run of its sweep, which has 4: those are 00 to 03"):
    checkpoint.load_own(tmp_path / "runs/07")


@pytest.mark.parametrize("name", ["a[b]c", "a]b", "a\\b", "a*b?", "{a}", "a b", "%20", "ü"])
def test_any_path_is_taken_literally(tmp_path, name):
  (tmp_path / name).mkdir()
  folder = tmp_path / name / "checkpoints"
  checkpoint.save(folder, 1, STATE)
  checkpoint.save(folder, 2, {"x": np.arange(3.0) + 1})
  step, arrays = checkpoint.load_newest(folder)
  assert step == 2 and arrays["x"].tolist() == [1.0, 2.0, 3.0]


def test_the_hash_in_the_file_is_sha256_of_path_dtype_shape_and_bytes(tmp_path):
  checkpoint.save(tmp_path, 1, STATE)
  data = checkpoint.file_of(tmp_path, 1).read_bytes()
  head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # As the format's own description says.
  expected = hashlib.sha256(b"(('x',), 'float64', (3,))" + np.arange(3.0).tobytes()).hexdigest()
  assert head["__metadata__"] == {"content_sha256": expected}


def test_one_wrong_bit_is_noticed_and_the_checkpoint_before_used(tmp_path, capsys):
  for step in (1, 2):
    checkpoint.save(tmp_path, step, STATE)
  file = checkpoint.file_of(tmp_path, 2)
  data = bytearray(file.read_bytes())
  data[-1] ^= 1
  file.write_bytes(data)
  assert checkpoint.load_newest(tmp_path)[0] == 1
  assert (
    "2.safetensors is damaged (its content does not match its hash); trying the one before" in capsys.readouterr().err
  )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_when_all_are_damaged_nobody_is_told_to_delete_them(tmp_path, capsys, keep):
  checkpoint.save(tmp_path, 1, STATE)
  file = checkpoint.file_of(tmp_path, 1)
  file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
  with pytest.raises(ValueError, match="every checkpoint in .* is damaged; start again in another --workdir") as error:
    checkpoint.load_newest(tmp_path)
  assert "delete" not in f"{error.value}{capsys.readouterr().err}"


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged_nor_passed_over(tmp_path, monkeypatch, capsys):
  checkpoint.save(tmp_path, 1, STATE)
  checkpoint.file_of(tmp_path, 2).mkdir()
  with pytest.raises(OSError, match=r"^cannot read \S*/2.safetensors \(Is a directory\); mend that first$"):
    checkpoint.load_newest(tmp_path)
  checkpoint.file_of(tmp_path, 2).rmdir()

  checkpoint.file_of(tmp_path, 2).symlink_to("/proc/self/mem")  # Address 0 holds nothing: the system answers EIO.
  with pytest.raises(OSError, match=r"^cannot read \S*/2.safetensors \(Input/output error\); mend that first$"):
    checkpoint.load_newest(tmp_path)
  checkpoint.file_of(tmp_path, 2).unlink()

  def refuse(file):
    raise PermissionError(13, "Permission denied", str(file))

  monkeypatch.setattr(arrays_file, "read", refuse)
  with pytest.raises(OSError, match=r"^cannot read \S*/1.safetensors \(Permission denied\); mend that first$"):
    checkpoint.load_newest(tmp_path)
  assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_whole_loses_nothing(tmp_path):
  folder = tmp_path / "checkpoints"
  checkpoint.save(folder, 600, STATE)
  before, limits = contents(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # The system itself refuses, as with a full disk.
  try:
    with pytest.raises(
      OSError, match=r"^cannot save step 700 in \S* \(File too large\); the checkpoint of step 600 is"
    ):
      checkpoint.save(folder, 700, {"x": np.zeros(10_000)}, keep=1)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert contents(folder) == before
  checkpoint.save(folder, 700, {"x": np.zeros(10_000)}, keep=1)
  assert checkpoint.steps(folder) == [700]


def test_a_save_is_read_again_before_anything_older_is_deleted(tmp_path, monkeypatch):
  checkpoint.save(tmp_path, 1, STATE)
  before, save = contents(tmp_path), arrays_file.safetensors_numpy.save
  wrong = lambda arrays, head: save({name: array + 1 for name, array in arrays.items()}, head)  # noqa: E731
  monkeypatch.setattr(arrays_file.safetensors_numpy, "save", wrong)
  with pytest.raises(OSError, match="cannot save step 2 .*reads otherwise than it was written.*step 1 is whole"):
    checkpoint.save(tmp_path, 2, STATE, keep=1)
  monkeypatch.setattr(arrays_file.safetensors_numpy, "save", lambda arrays, head: b"nothing")
  with pytest.raises(OSError, match="cannot save step 2 .*damaged.*step 1 is whole"):
    checkpoint.save(tmp_path, 2, STATE, keep=1)
  assert contents(tmp_path) == before


def test_saving_removes_what_a_killed_save_has_left_and_what_is_older_than_kept_and_nothing_else(tmp_path):
  checkpoint.save(tmp_path, 100, STATE)
  (tmp_path / "100_good.safetensors").write_bytes(checkpoint.file_of(tmp_path, 100).read_bytes())
  (tmp_path / "unfinished").mkdir()
  (tmp_path / "unfinished/200.safetensors").write_bytes(b"half")
  for step in (200, 300, 400):
    checkpoint.save(tmp_path, step, STATE, keep=2)
  assert {path.name for path in tmp_path.iterdir()} == {"100_good.safetensors", "300.safetensors", "400.safetensors"}


def test_a_run_directory_that_is_gone_is_not_made_anew(tmp_path):
  with pytest.raises(OSError, match="cannot save step 1 in .*No such file .*start again in another --workdir"):
    checkpoint.save(tmp_path / "gone/checkpoints", 1, STATE)
  assert not (tmp_path / "gone").exists()


def test_checkpoints_of_an_older_version_are_refused_and_stay(tmp_path):
  (tmp_path / "600").mkdir()
  for use in (lambda: checkpoint.load_newest(tmp_path), lambda: checkpoint.save(tmp_path, 700, STATE)):
    with pytest.raises(ValueError, match=r"/600 was saved by an older version .* or use another --workdir"):
      use()
  assert [path.name for path in tmp_path.iterdir()] == ["600"]


def test_a_frozen_layer_may_be_named_auxiliary():
  shown = specs.Array((3,), np.float32)
  plain = column.make(base.column(inputs=("x",), conv=(), dense=(4,), lstm=()), {"x": shown}, (2,))
  first, output = plain.layers
  layers = dataclasses.replace(first, name="auxiliary"), dataclasses.replace(output, inputs=("auxiliary",))
  spec = network.Network((dataclasses.replace(plain, layers=layers), plain))
  params = network.init(jax.random.key(0), spec)
  head = {"d/x": [{"kernel": np.ones(2)}]}
  state = {"trainable": {1: params[1] | {"auxiliary": head}}, "frozen": {0: params[0]}}
  arrays = checkpoint.flatten(state)
  chex.assert_trees_all_equal(checkpoint.network_params(arrays, spec, source="here"), params)
  assert list(checkpoint.auxiliary_heads(arrays)) == ["d/x"]
