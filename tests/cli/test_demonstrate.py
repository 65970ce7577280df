import pytest

from wpg.cli.main import main
from wpg.controllers import TrainConfig, load_demonstrations
from wpg.controllers.experience.environment import inspect_env, make_env


def test_a_script_plays_and_training_takes_it(tmp_path, capsys):
    path = tmp_path / "new" / "push.npz"
    assert main(["demonstrate", "wpg/PandaPush-v0", "--episodes", "2", "--out", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 episodes solved; next: wpg train wpg/PandaPush-v0 --demonstrations" in said
    env = make_env("wpg/PandaPush-v0")
    episodes = load_demonstrations(path, inspect_env(env))
    env.close()
    assert [len(episode.actions) for episode in episodes] == [100, 100]
    run = tmp_path / "run"
    steps = ["--steps", "400", "--hidden", "16", "--out", str(run)]
    assert main(["train", "wpg/PandaPush-v0", "--demonstrations", str(path), *steps]) == 0
    assert TrainConfig.load(run / "config.yaml").demonstrations == str(path.resolve())


def test_what_cannot_be_played_or_written_is_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "some.npz")]
    assert main(["demonstrate", "wpg/PandaReach-v0", *out]) == 1
    assert "no script plays wpg/PandaReach-v0" in " ".join(capsys.readouterr().err.split())
    assert main(["demonstrate", "wpg/PandaPush-v0", "--episodes", "0", *out]) == 2
    assert not (tmp_path / "some.npz").exists()
    (tmp_path / "some.npz").write_text("mine")
    assert main(["demonstrate", "wpg/PandaPush-v0", "--episodes", "1", *out]) == 1
    assert (tmp_path / "some.npz").read_text() == "mine"


def test_demonstrations_of_another_task_leave_no_run_folder(tmp_path, capsys):
    path = tmp_path / "push.npz"
    assert main(["demonstrate", "wpg/PandaPush-v0", "--episodes", "1", "--out", str(path)]) == 0
    run = tmp_path / "run"
    arguments = ["wpg/PandaPickAndPlace-v0", "--demonstrations", str(path), "--out", str(run)]
    assert main(["train", *arguments]) == 1
    assert "observation" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize(("option", "value"), [("--seed", "-1"), ("--noise", "-0.1"), ("--noise", "nan")])
def test_a_value_out_of_range_is_named(tmp_path, capsys, option, value):
    out = ["--out", str(tmp_path / "some.npz")]
    assert main(["demonstrate", "wpg/PandaPush-v0", option, value, *out]) == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize("other", ["--steps", "--num-envs"])
def test_resume_keeps_its_own(tmp_path, other, capsys):
    assert main(["train", "--resume", str(tmp_path), "--demonstrations", "x.npz", other, "5"]) == 2
    assert "--demonstrations" in capsys.readouterr().err
