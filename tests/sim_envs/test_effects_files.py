"""Effects in files are read, written and read back; errors in them are named."""

import gymnasium
import msgspec
import numpy as np
import pytest

from wpg.sim_envs.effects import Effects, JointEffects, Spread, effects_toml, load_effects, spread_of
from wpg.sim_envs.errors import EffectsError

REACH = "wpg/PandaReach-v0"


def test_effects_from_a_file(tmp_path, description):
    path = tmp_path / "actuators.toml"
    path.write_text(
        'robot = "panda"\naction_delay_s = [0.0, 0.03]\ncoulomb_friction_nm = 1\n'
        'friction_factor = { low = 0.5, high = 2.0, kind = "log_uniform" }\n'
        "[joints.panda_joint7]\ncoulomb_friction_nm = 0.25\n"
    )
    effects = load_effects(str(path), description)
    drawn = effects.draw(np.random.default_rng(0), description)
    assert drawn.coulomb_friction_nm.tolist() == [1.0] * 6 + [0.25]
    assert effects.ranges()["panda_joint7.coulomb_friction_nm"] == (0.25, 0.25)
    assert gymnasium.make(REACH, effects=str(path)).unwrapped.interface.trained_delay_s == (0.0, 0.03)
    path.write_text(effects_toml(effects))
    assert load_effects(path, description) == effects


def test_a_normal_is_drawn_about_its_mean(tmp_path, description):
    path = tmp_path / "actuators.toml"
    path.write_text(
        'action_delay_s = { low = 0.0, high = 0.08, kind = "normal", mean = 0.001 }\n'
        'payload_kg = { low = 0.0, high = 0.08, kind = "normal" }\n'
    )
    effects = load_effects(path, description)
    rng = np.random.default_rng(0)
    about, middle = (spread_of(v).draw(rng, 4000) for v in (effects.action_delay_s, effects.payload_kg))
    assert np.median(about) == pytest.approx(0.001, abs=0.002)
    assert about.min() == 0.0
    assert np.quantile(about, 0.84) == pytest.approx(0.0405, abs=0.003)
    assert middle.mean() == pytest.approx(0.04, abs=0.001)
    assert middle.std() == pytest.approx(0.02, rel=0.1)
    assert effects.ranges()["payload_kg"] == (0.0, 0.08)
    path.write_text(effects_toml(effects))
    assert load_effects(path, description) == effects


def test_a_range_is_drawn_evenly_and_a_logarithmic_one_in_its_logarithm():
    rng, quarters = np.random.default_rng(0), (0.0, 0.25, 0.5, 0.75, 1.0)
    even = spread_of((1.0, 16.0)).draw(rng, 4000)
    np.testing.assert_allclose(np.quantile(even, quarters), [1.0, 4.75, 8.5, 12.25, 16.0], atol=0.5)
    logarithmic = Spread(low=1.0, high=16.0, kind="log_uniform").draw(rng, 4000)
    np.testing.assert_allclose(np.quantile(logarithmic, quarters), [1.0, 2.0, 4.0, 8.0, 16.0], rtol=0.1)


@pytest.mark.parametrize("name", ["arm/joint 1", "j.1", 'the "big" one', "a\\b", "Gelenk ä", "\U0001f9be"])
def test_any_names_are_read_back(tmp_path, description, name):
    first, *others = description.joints
    named = msgspec.structs.replace(
        description, name=name, joints=(msgspec.structs.replace(first, name=name), *others)
    )
    effects = Effects(robot=name, lag_s=0.01, joints={name: JointEffects(lag_s=(0.01, 0.02))})
    path = tmp_path / "actuators.toml"
    path.write_text(effects_toml(effects))
    assert load_effects(path, named) == effects


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("action_delay_s = -0.01", r"actuators\.toml: action_delay_s: expected 0 to 1, found -0\.01"),
        ("lag_s = [0.02, 0.01]", r"lag_s: expected low <= high, found 0\.02 > 0\.01"),
        ("payload_kg = 'heavy'", r"actuators\.toml: Expected .*got `str` - at `\$\.payload_kg`"),
        ("dropped_commands = 1.5", r"dropped_commands: expected 0 to 0\.99, found 1\.5"),
        (
            'lag_s = { low = 0.01, high = 0.02, kind = "normal", mean = 0.03 }',
            r"actuators\.toml: mean: expected 0\.01 to 0\.02, found 0\.03 - at `\$\.lag_s`",
        ),
        ("lag_s = { low = 0.01, high = 0.02, mean = 0.01 }", r"mean: expected kind normal, found uniform"),
        ("lag_s = nan", r"lag_s: expected finite ends, found nan"),
        ("dealy_s = 0.1", r"unknown field `dealy_s`"),
        ('robot = "xarm6"', r"actuators\.toml: robot: expected panda, found xarm6 \(give --robot xarm6\)"),
        ("[joints.thumb]\nlag_s = 0.1", r"joints: expected some of panda_joint1, .*, found thumb"),
        ("[joints.panda_joint1]\nlag_s = -1", r"lag_s: expected 0 to 1, found -1"),
        ("lag_s = ", r"actuators\.toml: "),
    ],
)
def test_bad_files_are_named(tmp_path, description, text, message):
    path = tmp_path / "actuators.toml"
    path.write_text(text)
    with pytest.raises(EffectsError, match=message) as caught:
        load_effects(str(path), description)
    assert "\n" not in str(caught.value)


def test_missing_file():
    with pytest.raises(EffectsError, match=r"nowhere\.toml: cannot be read: No such file"):
        gymnasium.make(REACH, effects="nowhere.toml")
