"""The contract as readable text, for ``wpg inspect`` and for reports."""

from typing import NamedTuple

from wpg.export.contract import Contract, SamplerSpec
from wpg.export.interface import ActionTerm, GoalSpec, ObservationTerm, Row


class Section(NamedTuple):
    """A titled list of names and values."""

    title: str
    rows: list[tuple[str, str]]


def describe(contract: Contract) -> list[Section]:
    """The contract in sections, without the values of the golden vectors."""
    return [
        _robot(contract),
        _observation(contract),
        *_sources(contract),
        _action(contract),
        *_goal(contract),
        _training(contract),
        _sampler(contract),
        _provenance(contract),
        _golden(contract),
    ]


def _robot(contract: Contract) -> Section:
    robot = contract.interface.robot
    if robot is None:
        return Section("Robot", [("robot", "none: trained in an environment that stands for no robot")])
    rows = [("robot", robot.name)]
    for index, joint in enumerate(robot.joints):
        zero = f", zero at {_number(joint.zero_rad)} rad" if joint.zero_rad else ""
        turned = ", reversed" if joint.sign < 0 else ""
        rows.append((f"joint {index}", f"{joint.name} ({joint.unit}{zero}{turned})"))
    return Section("Robot", rows)


def _observation(contract: Contract) -> Section:
    interface = contract.interface
    rows = [(term.name, _term(term)) for term in interface.observation]
    return Section(f"Observation ({interface.obs_dim})", rows)


def _sources(contract: Contract) -> list[Section]:
    terms = ",".join(contract.interface.external)
    if not terms:
        return []
    rows = [("on a robot", f"wpg run needs --source {terms}=udp://HOST:PORT (docs/sources.md)")]
    return [Section("From outside the robot", rows)]


def _term(term: ObservationTerm) -> str:
    parts = [f"{term.size} from {term.source}"]
    if term.unit:
        parts.append(term.unit)
    if term.scale != 1.0:
        parts.append(f"scaled by {_number(term.scale)}")
    if term.clip is not None:
        parts.append(f"clipped to {_interval(*term.clip)}")
    if term.history > 1:
        parts.append(f"{term.history} values, newest first")
    return ", ".join(parts)


def _action(contract: Contract) -> Section:
    interface = contract.interface
    action = interface.action
    rows = [
        ("mode", _mode(action)),
        ("unit", action.unit),
        ("lowest", _row(action.low)),
        ("highest", _row(action.high)),
        ("period", f"{_number(interface.control_dt_s)} s ({_number(1 / interface.control_dt_s)} Hz)"),
    ]
    if action.tool is not None:
        rows[1:1] = [
            ("tool stays in", f"{_row(action.tool.low_m)} to {_row(action.tool.high_m)} m"),
            ("joints return to", f"{_row(action.tool.posture_rad)} rad"),
        ]
    return Section(f"Action ({action.size})", rows)


def _mode(action: ActionTerm) -> str:
    origin = {"measured": "where the arm is measured", "target": "its last target"}[action.delta_from]
    return action.mode.replace("_", " ") + (f", from {origin}" if action.mode.endswith("_delta") else "")


def _goal(contract: Contract) -> list[Section]:
    goal = contract.interface.goal
    if goal is None:
        return []
    rows = [
        ("compared with", goal.achieved),
        ("lowest", f"{_row(goal.low)} m"),
        ("highest", f"{_row(goal.high)} m"),
        ("started from", _start(goal)),
        *([("at least", f"{_number(goal.distance_min_m)} m away at first")] if goal.distance_min_m else []),
        *([("where", "something stands there: run with --goal")] if goal.given else []),
        ("reached within", f"{_number(goal.tolerance_m)} m after {goal.horizon_steps} steps"),
    ]
    return [Section("Goal", rows)]


def _start(goal: GoalSpec) -> str:
    beside = goal.start_clearance_m
    near = goal.start_spread_rad
    parts = [
        *([f"joints within {_number(near)} rad of the start"] if near is not None else []),
        *([f"the tool at least {_number(beside)} m beside {goal.achieved}"] if beside is not None else []),
    ]
    return ", ".join(parts) or "anywhere"


def _training(contract: Contract) -> Section:
    """Ranges of what varied between the arms in training; a quantity of several joints is one range."""
    interface = contract.interface
    spans: dict[str, tuple[float, float]] = {}
    for name, (low, high) in interface.trained_ranges.items():
        field = name.rpartition(".")[2]
        least, greatest = spans.get(field, (low, high))
        spans[field] = min(low, least), max(high, greatest)
    rows = [("delay_s", _interval(*interface.trained_delay_s))]
    return Section("Trained with", rows + [(field, _interval(*span)) for field, span in spans.items()])


def _sampler(contract: Contract) -> Section:
    spec = contract.sampler
    refinement = (
        f"{spec.refinement_steps} Langevin steps of size {_number(spec.step_size)}"
        if spec.refinement_steps
        else "none"
    )
    rows = [
        ("particles", f"{spec.num_particles} from {spec.num_components} components"),
        ("refinement", refinement),
        ("temperature", _number(spec.temperature)),
        ("choice", _choice(spec)),
        (
            "noise",
            f"(B, K, {spec.noise_dim}), standard normal, times {_number(spec.noise_scale)} in the graph",
        ),
        ("normaliser", contract.normaliser),
    ]
    return Section("Sampler", rows)


def _choice(spec: SamplerSpec) -> str:
    return {
        "best": "the particle with the highest value",
        "best_with_hysteresis": (
            f"the highest value, less {_number(spec.switch_cost)} per unit of distance from the action before"
        ),
        "medoid": "the particle nearest to all others",
        "sample": "one particle at random",
    }[spec.choice]


def _provenance(contract: Contract) -> Section:
    source = contract.provenance
    rows = [
        ("environment", source.env_id),
        ("seed", "unknown" if source.seed is None else str(source.seed)),
        ("environment steps", f"{source.env_steps:,}"),
        ("commit", source.git_commit or "unknown"),
        ("configuration", f"SHA-256 {source.config_sha256[:16]}…"),
        ("licence", source.licence or "not stated"),
        *sorted(source.packages.items()),
    ]
    return Section("Provenance", rows)


def _golden(contract: Contract) -> Section:
    golden = contract.golden
    rows = [
        ("observations", str(len(golden.obs))),
        ("particles each", str(len(golden.noise[0]))),
        ("tolerance", f"{_number(golden.tolerance)} of 1 + |value|"),
        ("contract version", str(contract.version)),
    ]
    return Section("Golden vectors", rows)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _row(values: Row) -> str:
    """Numbers in order, or one number if they are all the same."""
    if len(set(values)) == 1 and len(values) > 1:
        return f"{_number(values[0])} each"
    return ", ".join(_number(value) for value in values)


def _interval(low: float, high: float) -> str:
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"
