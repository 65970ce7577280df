import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from wpg.sim_envs.engines import ENGINES, make_robot, mujoco_rendering
from wpg.sim_envs.engines.display import VARIABLES
from wpg.sim_envs.errors import RenderError
from wpg.sim_envs.models.meshes import obj_parts
from wpg.sim_envs.tasks.table import CUBE

IDS = ["wpg/PandaReach-v0", "wpg/PandaReachBullet-v0"]


def is_colour(image, rgb):
    """Pixels whose hue is near that of ``rgb`` at any brightness."""
    pixels = image.astype(np.float64)
    pixels /= np.linalg.norm(pixels, axis=-1, keepdims=True) + 1e-9
    return pixels @ (np.array(rgb) / np.linalg.norm(rgb)) > 0.97


def centroid(mask):
    return np.argwhere(mask).mean(axis=0)


@pytest.fixture(scope="module")
def pictures():
    images = []
    for name in IDS:
        env = gymnasium.make(name, render_mode="rgb_array")
        env.reset(seed=5)
        images.append(env.render())
        env.close()
    return images


def test_size_and_type(pictures):
    for image in pictures:
        assert image.shape == (480, 640, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("rgb", [(0.10, 0.72, 0.30), (0.95, 0.35, 0.10)], ids=["goal", "tool"])
def test_both_engines_show_goal_and_tool_in_the_same_place(pictures, rgb):
    masks = [is_colour(image, rgb) for image in pictures]
    for mask in masks:
        assert 15 < mask.sum() < 1500
    assert np.linalg.norm(centroid(masks[0]) - centroid(masks[1])) < 4.0


def test_both_engines_show_the_cube_in_the_same_place():
    centroids = []
    for name in ("wpg/PandaPush-v0", "wpg/PandaPushBullet-v0"):
        env = gymnasium.make(name, render_mode="rgb_array")
        env.reset(seed=4)
        mask = is_colour(env.render(), CUBE.rgba[:3])
        assert mask.sum() > 100
        centroids.append(centroid(mask))
        env.close()
    assert np.linalg.norm(centroids[0] - centroids[1]) < 4.0


def test_pictures_are_alike(pictures):
    first, second = (image.astype(np.float64).mean(axis=-1) for image in pictures)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", IDS)
def test_picture_follows_the_arm(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=5)
    before = env.render()
    for _ in range(10):
        env.step(np.ones(7, np.float32))
    assert (env.render() != before).any(axis=-1).sum() > 5000
    env.close()


def test_no_render_mode_no_picture():
    env = gymnasium.make(IDS[0])
    env.reset(seed=0)
    assert env.unwrapped.render() is None
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_screen_there_is_no_window(engine, description, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RenderError, match="no display to open a window on: DISPLAY and WAYLAND_DISPLAY"):
        make_robot(description, engine, visuals=True, window=True)


def test_software_rendering_works_too():
    code = (
        "import gymnasium; env = gymnasium.make('wpg.sim_envs:wpg/PandaReach-v0', render_mode='rgb_array'); "
        "env.reset(seed=0); print(env.render().shape)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={"MUJOCO_GL": "osmesa"},
        check=False,
    )
    assert (result.stdout.strip(), result.stderr) == ("(480, 640, 3)", "")


def test_without_opengl_the_packages_are_named(monkeypatch):
    def broken(name):
        raise ImportError(f"{name} has no library")

    monkeypatch.setattr(mujoco_rendering, "import_module", broken)
    monkeypatch.setattr(mujoco_rendering, "_forget_opengl", lambda: None)
    with pytest.raises(RenderError, match=r"apt-get install libegl1 .* or libosmesa6 \(egl: mujoco\.egl has"):
        mujoco_rendering.open_gl(64, 64)


def test_obj_files_split_by_colour(tmp_path):
    (tmp_path / "two.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n")
    path = tmp_path / "two.obj"
    path.write_text(
        "mtllib two.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 5 5 5\n"
        "usemtl red\nf 1/1/1 2/2/2 3/3/3 4/4/4\nusemtl blue\nf -1 1 2\n"
    )
    red, blue = obj_parts(path)
    assert (red.rgba, blue.rgba) == ((1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0))
    assert red.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    np.testing.assert_array_equal(blue.vertices[blue.faces[0]], [[5, 5, 5], [0, 0, 0], [1, 0, 0]])
