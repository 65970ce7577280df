"""Identification of arms with known parameters, and logs that it refuses."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace as replaced

from wpg.cli.main import main
from wpg.hardware_bridge.robot import JointCommand
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import RunRecording, Series
from wpg.sim_envs.effects import Effects, JointEffects, effects_toml, load_effects, spread_of
from wpg.sim_envs.engines import make_robot
from wpg.sim_envs.errors import IdentificationError
from wpg.sim_envs.identification.fitting import fit
from wpg.sim_envs.identification.identify import Quantity, identify
from wpg.sim_envs.identification.recording import Recording, recording_of
from wpg.sim_envs.identification.replay import Replayer
from wpg.sim_envs.models.scene import Scene

MOVING = 3
TRUE = Effects(
    action_delay_s=0.0425,
    payload_kg=0.7,
    joint_pos_noise_rad=1e-4,
    joint_torque_noise_nm=0.1,
    joints={
        "panda_joint4": JointEffects(
            lag_s=0.012,
            coulomb_friction_nm=0.6,
            viscous_friction_nm_s_rad=6.0,
            stiffness_factor=0.8,
            damping_factor=1.1,
            joint_pos_offset_rad=0.003,
        )
    },
)


def one_joint_motion(description, seconds):
    """A motion of one joint with waves and steps, (T, J) rad and rad/s."""
    dt_s = description.servo_dt_s
    time_s = np.arange(1, round(seconds / dt_s) + 1) * dt_s
    fade = np.minimum(1.0, time_s)
    wave = fade * (0.15 * np.sin(1.9 * time_s) + 0.03 * np.sin(9.1 * time_s) + 0.008 * np.sin(23.0 * time_s))
    joint_pos = np.tile(description.limits("home_rad"), (len(time_s), 1))
    joint_pos[:, MOVING] += wave
    return joint_pos, np.gradient(joint_pos, dt_s, axis=0)


def recorded(description, engine, effects, seconds):
    """The recording of an arm with these effects that follows that motion."""
    robot, rng = make_robot(description, engine, scene=Scene(payload=True)), np.random.default_rng(3)
    robot.apply(effects.draw(rng, description), rng)
    robot.reset(description.limits("home_rad"))
    command_pos, command_vel = one_joint_motion(description, seconds)
    states = []
    for pos, vel in zip(command_pos, command_vel, strict=True):
        states.append(robot.read())
        robot.write(JointCommand(joint_pos=pos, joint_vel=vel))
        robot.advance(description.servo_dt_s)
    robot.close()
    return Recording(
        time_s=np.array([state.time_s for state in states]),
        command_pos=command_pos,
        command_vel=command_vel,
        joint_pos=np.array([state.joint_pos for state in states]),
        joint_vel=np.array([state.joint_vel for state in states]),
        joint_torque=np.array([state.joint_torque for state in states]),
        fresh=np.ones(len(states), bool),
    )


@pytest.fixture(scope="module")
def found(description):
    """The recording is made on PyBullet and fitted on MuJoCo."""
    return identify(description, recorded(description, "pybullet", TRUE, 8.0), num_workers=1)


def test_recovers_what_was_hidden(found, description):
    identification, _ = found
    drawn = TRUE.draw(np.random.default_rng(0), description)
    covered = []
    for quantity in identification.quantities:
        true = getattr(drawn, quantity.field)
        true = true if quantity.joint is None else true[MOVING]
        assert quantity.value == pytest.approx(true, rel=0.1, abs=1e-3), quantity.field
        covered.append(quantity.low <= true <= quantity.high)
    assert len(covered) == 8
    assert sum(covered) >= 6
    assert identification.noise["joint_pos_noise_rad"] == pytest.approx(1e-4, rel=0.2)


def test_what_did_not_move_is_not_told(found, description):
    identification, _ = found
    others = [name for name in description.joint_names if name != "panda_joint4"]
    assert identification.unknown["coulomb_friction_nm"] == others
    assert "action_delay_s" not in identification.unknown
    assert set(identification.effects.joints) == {"panda_joint4"}


def test_foretells_what_was_not_fitted(found):
    identification, comparison = found
    error = identification.errors[MOVING]
    assert error.fitted_rmse_rad < 1.2e-4
    assert error.unfitted_rmse_rad > 50 * error.fitted_rmse_rad
    difference = comparison.fitted[:, MOVING] - comparison.measured[:, MOVING]
    assert np.sqrt((difference**2).mean()) == pytest.approx(error.fitted_rmse_rad)


def test_file_reads_back_centred_on_what_was_found(found, description, tmp_path):
    identification, _ = found
    path = tmp_path / "actuators.toml"
    path.write_text(effects_toml(identification.effects))
    effects = load_effects(path, description)
    assert effects == identification.effects
    delay = spread_of(effects.action_delay_s)
    assert delay.mean == pytest.approx(0.0425, abs=1e-3)
    assert delay.kind == "normal"
    assert effects.robot == "panda"


def test_draws_are_about_the_estimate_of_an_interval_cut_at_zero(found):
    identification, _ = found
    lag = Quantity(field="lag_s", joint="panda_joint4", value=0.0003, low=0.0, high=0.0773)
    effects = replaced(identification, quantities=[lag]).effects
    drawn = spread_of(effects.joints["panda_joint4"].lag_s).draw(np.random.default_rng(0), 4000)
    assert np.median(drawn) == pytest.approx(0.0003, abs=0.002)


def test_without_torque_intervals_are_wider(found, description):
    recording = recorded(description, "mujoco", TRUE, 8.0)
    silent = replace(recording, joint_torque=np.zeros_like(recording.joint_torque))
    identification, _ = identify(description, silent, num_workers=1)
    assert not identification.has_torque
    delay, seen = (
        next(q for q in one.quantities if q.field == "action_delay_s") for one in (identification, found[0])
    )
    assert delay.low <= 0.0425 <= delay.high
    assert delay.high - delay.low > seen.high - seen.low
    assert identification.errors[MOVING].fitted_rmse_rad < 1.5e-4


@pytest.mark.parametrize(
    ("resolution_rad", "kept"),
    [
        (0.0015, {"action_delay_s", "payload_kg", "lag_s", "stiffness_factor", "joint_pos_offset_rad"}),
        (0.005, set()),
    ],
)
def test_what_gets_too_wide_without_the_others_is_left_out_too(description, resolution_rad, kept):
    coarse = recorded(description, "mujoco", replaced(TRUE, joint_pos_resolution_rad=resolution_rad), 6.0)
    silent = replace(coarse, joint_torque=np.zeros_like(coarse.joint_torque))
    found = fit(description, silent, num_workers=1)
    for estimate in found.estimates:
        parameter = estimate.parameter
        sought, high = parameter.encode(estimate.value), parameter.encode(estimate.high)
        assert high - sought <= parameter.needed(sought) * (1 + 1e-6), parameter.field
    assert kept <= {estimate.parameter.field for estimate in found.estimates}
    assert found.unknown


def test_replay_is_what_stepping_gives(engine, description):
    effects = Effects(action_delay_s=0.0123, lag_s=0.01, coulomb_friction_nm=0.3, payload_kg=0.5)
    recording = recorded(description, engine, effects, 1.0)
    replayer = Replayer(description, engine)
    motion = replayer.replay(recording, effects.draw(np.random.default_rng(0), description))
    replayer.close()
    np.testing.assert_allclose(motion.joint_pos, recording.joint_pos, atol=1e-9)
    np.testing.assert_allclose(motion.joint_torque, recording.joint_torque, atol=1e-5)


def test_both_engines_report_the_torque_that_acts(description):
    first, second = (recorded(description, engine, Effects(), 2.0) for engine in ("mujoco", "pybullet"))
    torque = first.joint_torque[:, MOVING]
    assert np.ptp(torque) > 1.0
    assert np.abs(torque - second.joint_torque[:, MOVING]).max() < 0.1


def run_of(recording, **changes):
    """The run log of a recording; ``changes`` replace parts of it."""
    time_s = recording.time_s + 100.0
    state = {
        "device_time_s": recording.time_s,
        "status": np.full(len(time_s), "ARMED", dtype=object),
        "joint_pos_rad": recording.joint_pos,
        "joint_vel_rad_s": recording.joint_vel,
        "joint_torque_nm": recording.joint_torque,
    }
    command = {"joint_pos_rad": recording.command_pos, "joint_vel_rad_s": recording.command_vel}
    empty = Series(time_s=np.empty(0), columns={})
    parts = {
        "state": Series(time_s=time_s, columns=state),
        "command": Series(time_s=time_s, columns=command),
        "metadata": {"robot": "panda"},
        "sources": {},
    }
    return RunRecording(
        **(parts | changes), decision=empty, timing=empty, event=empty, attachments={}, complete=True
    )


@pytest.fixture(scope="module")
def still(description):
    """Six seconds of an arm that does not move."""
    home = np.tile(description.limits("home_rad"), (1200, 1))
    return Recording(
        time_s=np.arange(1200) * 0.005,
        command_pos=home,
        command_vel=0 * home,
        joint_pos=home,
        joint_vel=0 * home,
        joint_torque=0 * home,
        fresh=np.ones(1200, bool),
    )


def changed(series, time_s=None, **columns):
    return Series(time_s=series.time_s if time_s is None else time_s, columns={**series.columns, **columns})


def test_a_run_log_becomes_its_longest_armed_stretch(still, description):
    run = run_of(still)
    status = run.state["status"].copy()
    status[:100] = "HOLDING"
    recording = recording_of(replace(run, state=changed(run.state, status=status)), description)
    assert len(recording) == 1100
    assert recording.time_s[0] == 0.0
    assert recording.fresh.all()


def test_refusals_name_what_is_wrong(still, description):
    run = run_of(still)
    clock, host = still.time_s.copy(), run.command.time_s.copy()
    clock[600:] += 0.2
    host[600:] += 0.5
    back = still.time_s.copy()
    back[600:] -= 1.0
    cases = {
        "another robot: expected panda, found xarm6": replace(run, metadata={"robot": "xarm6"}),
        "no state messages": replace(run, state=Series(time_s=np.empty(0), columns={})),
        "expected 7 joints": replace(run, state=changed(run.state, joint_pos_rad=np.zeros((1200, 6)))),
        "parts from the bridge's by 0.200 s": replace(run, state=changed(run.state, device_time_s=clock)),
        "goes back by": replace(run, state=changed(run.state, device_time_s=back)),
        "a gap: no setpoint for 0.5": replace(
            run, command=changed(run.command, host), state=changed(run.state, host)
        ),
        "not finite": replace(run, state=changed(run.state, joint_pos_rad=np.full((1200, 7), np.nan))),
        "too short: expected at least 5 s": run_of(still.part(slice(0, 400))),
    }
    for message, log in cases.items():
        with pytest.raises(IdentificationError, match=message) as caught:
            recording_of(log, description)
        assert "\n" not in str(caught.value)


def test_too_little_motion(still, description):
    with pytest.raises(IdentificationError, match="too little motion"):
        identify(description, still, num_workers=1)


def test_moments_at_the_torque_limit_are_not_fitted(description):
    recording = recorded(description, "mujoco", TRUE, 6.0)
    torque = recording.joint_torque.copy()
    torque[400:700, 0] = description.limits("torque_max_nm")[0]
    torque[400:720, MOVING] *= 2.0
    found, _ = identify(description, replace(recording, joint_torque=torque), num_workers=1)
    value = {quantity.field: quantity.value for quantity in found.quantities}
    assert value["coulomb_friction_nm"] == pytest.approx(0.6, rel=0.1)
    assert value["stiffness_factor"] == pytest.approx(0.8, rel=0.1)
    always = np.broadcast_to(description.limits("torque_max_nm"), torque.shape)
    with pytest.raises(IdentificationError, match="servos at their limits"):
        identify(description, replace(recording, joint_torque=always), num_workers=1)


def test_command_writes_everything_or_nothing(description, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    recording = recorded(description, "mujoco", TRUE, 6.0)
    log, out = tmp_path / "run.mcap", tmp_path / "actuators.toml"
    run_log = RunLog(log, {"robot": "panda"}, {"description.json": b"{}"})
    for row in range(len(recording)):
        run_log.tick(
            time_s=float(recording.time_s[row]),
            phase="playing",
            state=state_of(recording, row),
            command=JointCommand(joint_pos=recording.command_pos[row], joint_vel=recording.command_vel[row]),
            lateness_s=0.0,
            sense_to_act_s=0.0,
        )
    run_log.close()
    outputs = ["--out", str(out), "--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    assert main(["identify", str(log), "--robot", "xarm6", *outputs]) == 1
    assert "another robot" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [log]
    assert main(["identify", str(log), "--robot", "panda", *outputs]) == 0
    assert capsys.readouterr().out.endswith(f"next: wpg train wpg/PandaReach-v0 --actuators {out}\n")
    assert load_effects(out, description).robot == "panda"
    page = (tmp_path / "a.html").read_text()
    assert page.count("<svg") == 3
    assert "unfitted" in page


def test_what_is_next_names_another_robot(found, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("wpg.cli.commands.identify.read_log", lambda _: None)
    monkeypatch.setattr(
        "wpg.sim_envs.identification.recording.recording_of",
        lambda *_: SimpleNamespace(time_s=np.array([30.0])),
    )
    monkeypatch.setattr("wpg.sim_envs.identification.identify.identify", lambda *_: found)
    out = tmp_path / "a.toml"
    assert main(["identify", "run.mcap", "--robot", "omx", "--out", str(out)]) == 0
    said = f"next: wpg train wpg/PandaReach-v0 --robot omx --actuators {out}\n"
    assert capsys.readouterr().out.endswith(said)


@pytest.fixture
def at_a_link(monkeypatch, tmp_path):
    """Runs ``wpg identify`` on a robot behind a link, whose motion is written in no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "wpg.cli.commands.identify._record", lambda driver, path, *_: path.write_text("precious")
    )
    monkeypatch.setattr("wpg.cli.commands.identify.read_log", lambda _: None)
    monkeypatch.setattr(
        "wpg.sim_envs.identification.recording.recording_of",
        lambda *_: SimpleNamespace(time_s=np.array([30.0])),
    )

    def run(fit, *options):
        monkeypatch.setattr("wpg.sim_envs.identification.identify.identify", fit)
        return main(["identify", "--robot", "panda", "--link", "udp://127.0.0.1:9", *options])

    return run


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (IdentificationError("too little motion"), "wpg: too little motion; ", 1),
        (KeyboardInterrupt(), "wpg: interrupted; ", 130),
    ],
)
def test_a_fit_that_fails_names_the_command_that_repeats_it(at_a_link, capsys, error, said, code):
    def fail(*_):
        raise error

    assert at_a_link(fail, "--out", "mine.toml") == code
    again = "wpg identify mine.mcap --robot panda --out mine.toml"
    assert capsys.readouterr().err == f"{said}the motion is kept, fit it again: {again}\n"
    assert [path.name for path in Path().iterdir()] == ["mine.mcap"]


def test_the_recorded_motion_is_kept(at_a_link, found, tmp_path, capsys):
    assert at_a_link(lambda *_: found, "--log", "motion.mcap") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["actuators.toml", "motion.mcap"]
    (tmp_path / "actuators.toml").unlink()
    assert at_a_link(lambda *_: pytest.fail("fitted"), "--log", "motion.mcap") == 1
    assert "motion.mcap exists already: choose another with --log" in capsys.readouterr().err


def state_of(recording, row):
    """One logged state."""
    from wpg.hardware_bridge.robot import RobotState

    return RobotState(
        joint_pos=recording.joint_pos[row],
        joint_vel=recording.joint_vel[row],
        joint_torque=recording.joint_torque[row],
        time_s=float(recording.time_s[row]),
        sequence=row,
    )
