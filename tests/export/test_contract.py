"""The contract keeps every bit, says what is wrong, and is described in full."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wpg.export import (
    ActionTerm,
    ContractError,
    GoalSpec,
    ObservationTerm,
    contract_schema,
    decode_contract,
    describe,
    encode_contract,
    load_artifact,
    read_interface,
)
from wpg.export import contract as contract_module

SCHEMA = Path(__file__).parents[2] / "docs" / "contract.schema.json"
DOCS = Path(__file__).parents[2] / "docs" / "contract.md"

finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(scale=finite, offset=finite)
def test_floats_keep_every_bit(scale, offset):
    term = ActionTerm(mode="joint_position", size=1, unit="rad", scale=(scale,), offset=(offset,))
    back = msgspec.json.decode(msgspec.json.encode(term), type=ActionTerm)
    assert np.array([*back.scale, *back.offset]).tobytes() == np.array([scale, offset]).tobytes()


@settings(deadline=None)
@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_keeps_every_bit(value):
    back = msgspec.json.decode(msgspec.json.encode(value), type=float)
    assert np.float32(back).tobytes() == np.float32(value).tobytes()


def test_contract_round_trip(path):
    contract = load_artifact(path).contract
    assert decode_contract(encode_contract(contract)) == contract


def test_published_schema_is_the_contracts():
    """After a change: ``SCHEMA.write_text(json.dumps(contract_schema(), indent=1) + "\\n")``."""
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(contract_schema()))


def test_older_contracts_are_migrated(path, monkeypatch):
    def renamed(values):
        values["sampler"]["choice"] = values["sampler"].pop("select")
        return values | {"version": 2}

    contract = load_artifact(path).contract
    older = json.loads(encode_contract(contract))
    older["sampler"]["select"] = older["sampler"].pop("choice")
    monkeypatch.setattr(contract_module, "CONTRACT_VERSION", 2)
    with pytest.raises(ContractError, match="version 1 found, this wpg reads version 2: export the policy"):
        decode_contract(json.dumps(older))
    monkeypatch.setitem(contract_module.MIGRATIONS, 1, renamed)
    assert decode_contract(json.dumps(older)) == msgspec.structs.replace(contract, version=2)


def test_a_robot_without_joints_is_refused(path):
    written = json.loads(encode_contract(load_artifact(path).contract))
    robot = written["interface"]["robot"]
    robot["joints"] = robot["kinematics"]["joints"] = []
    with pytest.raises(ContractError, match=r"length >= 1 - at `\$.interface.robot.joints`"):
        decode_contract(json.dumps(written))


def test_numbers_of_other_libraries_are_stored_as_plain_ones(path):
    contract = load_artifact(path).contract
    replace = msgspec.structs.replace
    interface = replace(
        contract.interface, control_dt_s=np.float64(0.05), trained_delay_s=(0.0, np.float32(0.5))
    )
    back = decode_contract(encode_contract(replace(contract, interface=interface)))
    assert back.interface.control_dt_s == 0.05
    assert back.interface.trained_delay_s == (0.0, 0.5)


def test_action_limits():
    term = ActionTerm(mode="joint_position", size=2, unit="rad", scale=(0.5, -0.25), offset=(1.0, 0.0))
    assert term.low == (0.5, -0.25)
    assert term.high == (1.5, 0.25)


def test_values_are_normalised_and_fixed_dimensions_are_zero():
    term = ActionTerm(mode="environment", size=3, unit="", scale=(0.5, 2.0, 0.0), offset=(1.0, -1.0, 3.0))
    values = np.array([[1.5, -3.0, 3.0], [0.75, -1.0, 3.0]], np.float32)
    normalised = term.normalise(values)
    assert normalised.dtype == np.float32
    assert normalised.tolist() == [[1.0, -1.0, 0.0], [-0.5, 0.0, 0.0]]


def test_refusals_name_what_is_wrong(interface):
    replace = msgspec.structs.replace
    goal = GoalSpec(achieved="tool_pos", low=(0.0, 0.0), high=(1.0, 1.0), tolerance_m=0.1, horizon_steps=1)
    cases = [
        (lambda: ObservationTerm(name="q", size=7, source="joint_pos", history=2), "no multiple"),
        (lambda: ObservationTerm(name="q", size=1, source="joint_pos", clip=(1.0, -1.0)), "no interval"),
        (
            lambda: ActionTerm(mode="joint_position", size=2, unit="rad", scale=(1.0,), offset=(0.0, 0.0)),
            "scales",
        ),
        (lambda: replace(interface, observation=()), "no observation terms"),
        (
            lambda: replace(interface, observation=interface.observation[:1] * 2),
            "found joint_pos more than once",
        ),
        (lambda: replace(interface, trained_ranges={"friction_nm": (2.0, 1.0)}), "friction_nm is inverted"),
        (
            lambda: replace(interface.robot, joints=interface.robot.joints[:2]),
            "2 joints, but its kinematics 3",
        ),
        (
            lambda: GoalSpec(achieved="tool_pos", low=(1.0,), high=(0.0,), tolerance_m=0.1, horizon_steps=1),
            "goal box",
        ),
        (lambda: replace(interface, trained_delay_s=(-0.1, 0.1)), "trained_delay_s: expected at least 0"),
        (lambda: replace(interface, goal=goal), "goal: expected 3 numbers for tool_pos, found 2"),
        (
            lambda: replace(interface, control_dt_s=math.inf),
            "^control_dt_s: expected finite numbers, found inf",
        ),
    ]
    for build, says in cases:
        with pytest.raises(ValueError, match=says):
            build()


def test_description_shows_what_a_reader_must_know(path):
    contract = load_artifact(path).contract
    text = "\n".join(f"{s.title}: {name} = {value}" for s in describe(contract) for name, value in s.rows)
    for fact in (
        "joint1",
        "joint_vel",
        "rad/s",
        "0.05 s (20 Hz)",
        "5 from 5 components",
        "-1.5",
        "wpg/Test-v0",
    ):
        assert fact in text


def test_description_joins_what_joints_were_trained_with(path):
    contract, replace = load_artifact(path).contract, msgspec.structs.replace
    ranges = {"payload_kg": (0.0, 2.0), "joint1.lag_s": (0.01, 0.02), "joint2.lag_s": (0.015, 0.03)}
    trained = replace(contract.interface, trained_delay_s=(0.08, 0.08), trained_ranges=ranges)
    (section,) = [s for s in describe(replace(contract, interface=trained)) if s.title == "Trained with"]
    assert section.rows == [("delay_s", "0.08"), ("payload_kg", "0 to 2"), ("lag_s", "0.01 to 0.03")]


def test_every_field_is_documented():
    documented = DOCS.read_text()
    for definition in contract_schema()["$defs"].values():
        for field in definition["properties"]:
            assert f"`{field}`" in documented, field


def test_schema_accepts_the_contract_as_written(path):
    schema = contract_schema()
    written = json.loads(encode_contract(load_artifact(path).contract))
    properties = schema["$defs"]["Contract"]["properties"]
    assert written.keys() == properties.keys()
    assert schema["$defs"]["Contract"]["additionalProperties"] is False


def test_documented_snippet_runs_without_wpg(path):
    """The file runs in plain onnxruntime, as the documentation shows."""
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(snippet.strip().splitlines()) <= 10
    code = snippet.replace("policy.onnx", str(path)) + "\nimport sys; assert 'wpg.export' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 1


def test_documented_interface_is_one(tmp_path):
    (toml,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "interface.toml").write_text(toml)
    assert read_interface(tmp_path / "interface.toml").obs_dim == 7


@pytest.mark.parametrize(
    ("field", "number", "line"),
    [
        ("control_dt_s = 0.05", "control_dt_s = inf", "control_dt_s: expected finite numbers, found inf"),
        ("scale = [", "scale = [nan, ", "action.scale: expected finite numbers, found (nan, "),
        ("size = 7\n", "size = 7\nscale = nan\n", "observation.0.scale: expected finite numbers, found nan"),
    ],
)
def test_numbers_of_an_interface_are_finite(field, number, line, tmp_path):
    (toml,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    file = tmp_path / "interface.toml"
    file.write_text(toml.replace(field, number, 1).replace("nan, 0.1, ", "nan, "))
    with pytest.raises(ContractError) as refusal:
        read_interface(file)
    assert str(refusal.value).startswith(f"{file}: {line}")


def test_reading_needs_neither_torch_nor_onnx(path):
    code = (
        "import sys, wpg.export as e; assert 'onnxruntime' not in sys.modules; "
        f"e.load_artifact({str(path)!r}).verify_golden(); "
        "assert not {'torch', 'onnx', 'onnxscript'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
