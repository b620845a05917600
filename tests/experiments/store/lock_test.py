"""One process at a time writes to a run directory, on any host. The tests write what other hosts would write."""

import contextlib
import json
import os
import pathlib
import socket
import threading

import pytest

from experiments.store import lock as lock_lib


def test_one_process_at_a_time(tmp_path):
  with lock_lib.alone(tmp_path), pytest.raises(ValueError, match="another process is at work"):
    lock_lib.alone(tmp_path).__enter__()
  with lock_lib.alone(tmp_path) as lock:
    lock.check()


def test_a_file_is_no_work_directory(tmp_path):
  (tmp_path / "file").write_text("mine")
  with pytest.raises(ValueError, match="file is a file; name a directory"), lock_lib.alone(tmp_path / "file"):
    pass
  assert (tmp_path / "file").read_text() == "mine"


def test_a_new_directory_in_which_nothing_was_written_is_taken_away_again(tmp_path):
  with contextlib.suppress(ZeroDivisionError), lock_lib.alone(tmp_path / "refused"):
    raise ZeroDivisionError
  assert not (tmp_path / "refused").exists()
  with lock_lib.alone(tmp_path / "learned"):
    (tmp_path / "learned/config.json").write_text("{}")
  assert (tmp_path / "learned/lock").exists()
  (tmp_path / "mine").mkdir()
  with lock_lib.alone(tmp_path / "mine"):
    pass
  assert (tmp_path / "mine").is_dir()


def test_a_failed_folder_removal_does_not_hide_the_error(tmp_path, monkeypatch):
  def refuse(self, *arguments):
    raise OSError("not empty")

  monkeypatch.setattr(pathlib.Path, "rmdir", refuse)  # As when an open file leaves another name behind.
  with pytest.raises(ZeroDivisionError), lock_lib.alone(tmp_path / "refused"):
    raise ZeroDivisionError


@pytest.mark.parametrize("what", ["renamed", "deleted", "made again", "made again and locked"])
def test_a_directory_that_is_not_there_any_more_is_noticed(tmp_path, monkeypatch, what):
  monkeypatch.chdir(tmp_path)
  with lock_lib.alone("run") as lock:
    monkeypatch.chdir("/")
    lock.check()
    os.rename(tmp_path / "run", tmp_path / "away")
    if what == "deleted":
      (tmp_path / "away/lock").unlink()
      (tmp_path / "away").rmdir()
    elif what == "made again":
      (tmp_path / "run").mkdir()
    elif what == "made again and locked":
      with lock_lib.alone(tmp_path / "run"):
        pass
    with pytest.raises(OSError, match=rf"^{tmp_path}/run was moved or deleted while it was at work, and nothing"):
      lock.check()


def as_other_host(folder, *, beat):
  """Writes what a process of another host would."""
  owner = {"host": "node7", "process": 41, "beat": beat}
  with (folder / "lock").open("r+") as file:
    file.write(json.dumps(owner).ljust(512))


def test_another_host_that_is_at_work_is_refused_and_one_that_is_gone_is_not(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(lock_lib, "_PATIENCE_S", 5.0)
  monkeypatch.setattr(lock_lib, "_BEAT_S", 0.05)
  (tmp_path / "lock").touch()
  as_other_host(tmp_path, beat=3)
  sign = threading.Timer(0.3, as_other_host, args=(tmp_path,), kwargs={"beat": 4})
  sign.start()
  with pytest.raises(ValueError, match=rf"^process 41 of host node7 is at work in {tmp_path}; wait for it"):
    lock_lib.alone(tmp_path).__enter__()
  sign.join()
  monkeypatch.setattr(lock_lib, "_PATIENCE_S", 0.5)
  with lock_lib.alone(tmp_path) as lock:
    lock.check()
    owner = json.loads((tmp_path / "lock").read_text())
    assert (owner["host"], owner["process"]) == (socket.gethostname(), os.getpid())
  assert "process 41 of host node7 was at work here; looking" in capsys.readouterr().out


def test_an_owner_gives_signs_of_life_and_leaves_no_name(tmp_path, monkeypatch):
  monkeypatch.setattr(lock_lib, "_BEAT_S", 0.05)
  with lock_lib.alone(tmp_path):
    for _ in range(200):
      if json.loads((tmp_path / "lock").read_text())["beat"] >= 2:
        break
      threading.Event().wait(0.05)
    else:
      pytest.fail("the number in the lock file does not grow")
  assert not (tmp_path / "lock").read_text().strip()
  monkeypatch.setattr(lock_lib, "_PATIENCE_S", 1e6)
  monkeypatch.setattr(socket, "gethostname", lambda: "node8")
  with lock_lib.alone(tmp_path):  # It waits for nobody.
    pass


def test_who_was_taken_over_saves_no_more(tmp_path, monkeypatch):
  monkeypatch.setattr(lock_lib, "_BEAT_S", 0.05)
  with lock_lib.alone(tmp_path) as lock:
    as_other_host(tmp_path, beat=0)
    threading.Event().wait(0.3)
    with pytest.raises(OSError, match=f"^process 41 of host node7 took {tmp_path} over"):
      lock.check()
  assert json.loads((tmp_path / "lock").read_text())["host"] == "node7"


def test_a_process_that_lost_the_lock_does_not_save_even_after_the_other_left(tmp_path, monkeypatch):
  """The other process has learned and erased its name. What it saved must stay."""
  monkeypatch.setattr(lock_lib, "_BEAT_S", 0.05)
  with lock_lib.alone(tmp_path) as lock:
    lock.check()
    (tmp_path / "lock").write_text(" " * 512)
    threading.Event().wait(0.3)
    with pytest.raises(OSError, match=f"^another process, which has left since, took {tmp_path} over"):
      lock.check()
  assert not (tmp_path / "lock").read_text().strip()
