"""Videos show the episode's number and its return. One that cannot be written is no reason to stop."""

import dm_env
import imageio
import imageio_ffmpeg
import numpy as np
import pytest

from environments import dm_env_adapter
from experiments.report import video
from tests.agents import worlds

FRAMES = [np.full((8, 60, 3), 100, np.uint8)] * 3


def test_captions_count_episodes_and_sum_rewards():
  # By hand: an episode's first reward belongs to no step, and the sum restarts there.
  lines = video.captions([True, False, False, True, False], [9.0, 1.0, 0.5, 9.0, -2.0])
  numbers = [(1, "0"), (1, "1"), (1, "1.5"), (2, "0"), (2, "-2")]
  assert lines == [f"episode {episode}  return {total}" for episode, total in numbers]
  assert video.captions([False, True], [1.0, 0.0]) == ["episode 1  return 1", "episode 2  return 0"]


def test_a_caption_stands_below_its_frame(tmp_path):
  video.write(tmp_path / "v.mp4", FRAMES, frames_per_s=10.0, captions=["", "return 5", "return 5"])
  blank, one, other = (np.asarray(frame, float) for frame in imageio.mimread(tmp_path / "v.mp4"))
  assert blank.shape == (8 * 4 + 20, 240, 3)
  for frame in (blank, one, other):
    np.testing.assert_allclose(frame[:30], 100, atol=6)
  assert blank[36:].max() < 30 and one[36:].max() > 150  # White on black.
  np.testing.assert_allclose(one, other, atol=40)
  with pytest.raises(ValueError, match="3 frames and 1 captions"):
    video.write(tmp_path / "v.mp4", FRAMES, frames_per_s=10.0, captions=["a"])
  with pytest.raises(ValueError, match="0 frames and 0 captions"):
    video.write(tmp_path / "v.mp4", [], frames_per_s=10.0)


class Seen(dm_env.Environment):
  """A world that shows pixels besides its observations."""

  def __init__(self):
    self._world = dm_env_adapter.DmEnv(worlds.CueRecall(), seed=0)

  def _show(self, timestep):
    return timestep._replace(observation=timestep.observation | {"pixels": np.zeros((8, 8, 3), np.uint8)})

  def reset(self):
    return self._show(self._world.reset())

  def step(self, action):
    return self._show(self._world.step(action))

  def observation_spec(self):
    return self._world.observation_spec()

  def action_spec(self):
    return self._world.action_spec()


def test_what_is_filmed_has_a_caption_for_each_frame_kept():
  filmed = video.Filmed(Seen(), max_frames=9)
  timesteps = [filmed.reset()]
  action = np.zeros(filmed.action_spec().shape, filmed.action_spec().dtype)
  timesteps += [filmed.step(action) for _ in range(12)]
  assert len(filmed.frames) == 9
  assert filmed.captions == video.captions([t.first() for t in timesteps[:9]], [t.reward or 0 for t in timesteps[:9]])
  assert filmed.captions[-1].startswith("episode 2")


def no_ffmpeg():
  raise RuntimeError("No ffmpeg exe could be found.\nInstall it.")


@pytest.mark.parametrize(
  ("ffmpeg", "reason"),
  [
    (lambda: "/bin/false", "ffmpeg ended with 1"),
    (lambda: "/nowhere/ffmpeg", "ffmpeg: .*No such file or directory"),
    (no_ffmpeg, "ffmpeg: No ffmpeg exe could be found"),
  ],
)
def test_a_video_that_fails_is_one_line_and_one_warning(tmp_path, monkeypatch, capsys, ffmpeg, reason):
  monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", ffmpeg)
  video._warn.cache_clear()
  with pytest.raises(OSError, match=rf"{reason}[^\n]*v.mp4'$"):
    video.write(tmp_path / "v.mp4", FRAMES, frames_per_s=10.0)
  for name in ("a.mp4", "b.mp4"):
    video.try_write(tmp_path / name, FRAMES, frames_per_s=10.0)
  error = capsys.readouterr().err
  assert error.startswith("warning: no video (ffmpeg") and error.count("\n") == 1
  assert not list(tmp_path.iterdir())


def test_ffmpeg_s_own_words_are_the_message_and_what_is_there_stays(tmp_path):
  (tmp_path / "data.hdf5").write_text("no video")
  with pytest.raises(OSError, match="data.hdf5"):
    video.write(tmp_path / "data.hdf5", FRAMES, frames_per_s=10.0)
  assert [path.read_text() for path in tmp_path.iterdir()] == ["no video"]
  (tmp_path / "taken.mp4").mkdir()
  with pytest.raises(OSError, match=r"Is a directory|[Ee]rror"):
    video.write(tmp_path / "taken.mp4", FRAMES, frames_per_s=10.0)
