"""``wpg play``: films of a task, and what is refused before any is made."""

import importlib.util
from unittest.mock import Mock

import gymnasium
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from PIL import Image

from wpg.cli import filming
from wpg.cli.filming import film, random_act
from wpg.cli.main import main
from wpg.cli.options import CommandError
from wpg.sim_envs.engines.display import VARIABLES

REACH = "wpg/PandaReach-v0"


def run(*args):
    return main(["play", *map(str, args)])


def test_a_film_has_every_step(tmp_path, capsys):
    path = tmp_path / "films" / "reach.gif"
    assert run(REACH, "--out", path, "--episodes", 1, "--robot", "xarm6") == 0
    assert "51 frames at 20 a second" in capsys.readouterr().out
    with Image.open(path) as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (51, (640, 480), 50)


def test_what_cannot_be_shown_is_refused_first(tmp_path, monkeypatch, capsys):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    found = importlib.util.find_spec

    def without_ffmpeg(name, *rest):
        return None if name == "imageio_ffmpeg" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_ffmpeg)
    for args, line, code in (
        (("--out", tmp_path / "film.avi"), "expected a file that ends in .mp4, .gif, .webp or .png", 2),
        (("--out", tmp_path / "film.mp4"), "MP4 needs pip install imageio-ffmpeg", 1),
        (("--window",), "no display to open a window on", 1),
        (("--episodes", 0), "--episodes: expected at least 1, found 0", 2),
    ):
        assert run(REACH, *args) == code
        assert line in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("none.onnx",), "none.onnx: no such file or folder, and no environment 'none.onnx'"),
        (("none.onnx", "--env", REACH), f"expected a policy to act in --env {REACH}, found no such file"),
        (("CartPole-v1",), "actions must be a one-dimensional float Box"),
    ],
)
def test_a_target_that_is_none_is_named(args, line, capsys, tmp_path):
    assert run(*args, "--out", tmp_path / "film.gif") == 1
    assert line in " ".join(capsys.readouterr().err.split())


def test_an_environment_that_gives_no_pictures(monkeypatch):
    class Blind(gymnasium.Wrapper):
        def render(self):
            return None

    env = Blind(gymnasium.make("Pendulum-v1"))
    with pytest.raises(CommandError, match="no pictures: Pendulum-v1 does not render"):
        film(random_act(env, 0), env, episodes=1, seed=0)
    monkeypatch.setattr(Blind, "render", refuse := Mock(side_effect=DependencyNotInstalled("no pygame")))
    with pytest.raises(CommandError, match="no pictures: no pygame"):
        film(random_act(env, 0), env, episodes=1, seed=0)
    refuse.assert_called_once()


class Endless(gymnasium.Env):
    """Has neither an end nor a frame rate."""

    action_space = observation_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": None}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self):
        return np.zeros((2, 2, 3), np.uint8)


def test_an_episode_without_a_time_limit_is_cut(monkeypatch, capsys):
    monkeypatch.setattr(filming, "MAX_EPISODE_STEPS", 7)
    env = Endless()
    assert len(film(random_act(env, 0), env, episodes=2, seed=0)) == 2 * 8
    assert capsys.readouterr().out.count("Endless has no time limit: the episode was cut after 7 steps") == 2
    assert filming.rate_hz(env) == 20


@pytest.mark.parametrize("option", [("--robot", "no_arm"), ("--robot", "so100.toml")])
def test_a_robot_that_is_not_there(option, capsys, tmp_path):
    assert run(REACH, "--out", tmp_path / "film.gif", *option) == 1
    assert option[1] in capsys.readouterr().err
