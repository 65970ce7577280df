"""Pictures of a run log, rendered without a display."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from wpg.cli.figures import BLUE, GREEN, GREY, ORANGE, styled
from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription
from wpg.hardware_bridge.robot import Vector
from wpg.hardware_bridge.run_log.reader import RunRecording

DPI = 110
WIDTH_IN = 11.0
COLUMNS = 4
LEFT_IN = 0.57
"""Left end of the panels' axes; the axes of events begin further right if an event has a long name."""
CHARACTER_IN = 0.068
FLOOR_US = 0.5
PAUSE_S = 0.5
ROOM = 0.01
"""Axes of positions show this much at least, rad or m, so that noise at rest does not look like motion."""
PHASE_COLOURS = {
    "armed": "#dfe7ef",
    "homing": "#efe6c9",
    "running": "#d9ecdc",
    "holding": "#f3cfc4",
    "stopping": "#dcdcdc",
}


COMMANDED: dict[str, Any] = {"color": ORANGE, "linewidth": 2.4, "alpha": 0.45}
LIMIT: dict[str, Any] = {"color": GREY, "linewidth": 1.0, "linestyle": "--"}


@styled
def one_picture(recording: RunRecording, title: str) -> bytes:
    """All panels in one PNG."""
    heights = [_height_in(recording, name) for name in PANELS]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.4), layout="constrained")
    robot = recording.metadata.get("robot", "")
    figure.suptitle(f"{title}: {robot}, {recording.command.time_s[-1]:.1f} s", x=0.01, ha="left")
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    for part, draw in zip(parts, PANELS.values(), strict=True):
        draw(part, recording)
    return _png(figure)


@styled
def panel_picture(recording: RunRecording, name: str) -> bytes:
    """One of :data:`PANELS` as a PNG."""
    figure = Figure(figsize=(WIDTH_IN, _height_in(recording, name)), layout="constrained")
    PANELS[name](figure, recording)
    return _png(figure)


def _height_in(recording: RunRecording, name: str) -> float:
    if name == "joints":
        return 1.7 * -(-len(_axes(recording)) // COLUMNS)
    return {"tool": 3.2, "timing": 2.4, "events": 1.9}[name]


def _joints(figure: FigureBase, recording: RunRecording) -> None:
    """Commanded and measured position of every joint, and of the gripper, between its limits."""
    shown = _axes(recording)
    panels = figure.subplots(-(-len(shown) // COLUMNS), COLUMNS, squeeze=False, sharex=True).ravel()
    for axes, axis in zip(panels, shown, strict=False):
        axes.plot(recording.command.time_s, axis.commanded, **COMMANDED)
        axes.plot(recording.state.time_s, axis.measured, color=BLUE, linewidth=0.8)
        axes.set_title(axis.name)
        axes.xaxis.set_major_formatter("{x:g} s")
        axes.tick_params(labelsize=7, labelbottom=True)
        _widen(axes)
        _draw_limits(axes, axis.limits)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    panels[0].set_ylabel("rad")
    looks: dict[str, dict[str, Any]] = {"commanded": COMMANDED, "measured": {"color": BLUE}, "limit": LIMIT}
    handles = [panels[0].plot([], [], **look)[0] for look in looks.values()]
    figure.legend(handles, list(looks), loc="outside lower right", ncols=len(looks), frameon=False)


class _Axis(NamedTuple):
    """Data to draw of a joint or of the gripper."""

    name: str
    commanded: Vector
    """(T,) rad or m."""
    measured: Vector
    """(N,)."""
    limits: tuple[float, ...]
    """Empty if the log does not describe the robot."""


def _axes(recording: RunRecording) -> list[_Axis]:
    robot, command, state = _description(recording), recording.command, recording.state
    num_joints: int = command["joint_pos_rad"].shape[1]
    names = [f"joint {number}" for number in range(1, num_joints + 1)]
    limits: list[tuple[float, ...]] = [()] * num_joints
    if robot is not None:
        names = list(robot.joint_names)
        limits = [(joint.position_min_rad, joint.position_max_rad) for joint in robot.joints]
    columns = [*command["joint_pos_rad"].T]
    measured = [*state["joint_pos_rad"].T] if len(state) else [np.zeros(0)] * num_joints
    if command["gripper_m"].shape[1]:
        names.append("gripper, m")
        limits.append(() if robot is None or robot.gripper is None else (0.0, robot.gripper.opening_max_m))
        columns.append(command["gripper_m"][:, 0])
        measured.append(state["gripper_m"][:, 0] if len(state) else np.zeros(0))
    return list(map(_Axis, names, columns, measured, limits))


def _draw_limits(axes: Axes, limits: tuple[float, ...]) -> None:
    """Draw the limits of an axis, unless they are far beyond the data."""
    low, high = axes.get_ylim()
    room = high - low
    for limit in limits:
        if low - room < limit < high + room:
            axes.axhline(limit, **LIMIT)


def _widen(axes: Axes) -> None:
    """Show at least ``ROOM`` of the vertical axis, around what is drawn."""
    low, high = axes.get_ylim()
    if high - low < ROOM:
        middle = (low + high) / 2
        axes.set_ylim(middle - ROOM / 2, middle + ROOM / 2)


def _tool(figure: FigureBase, recording: RunRecording) -> None:
    """Draw paths of tool and object from above and the side, distance to the goal, and particle spread."""
    above, side, distance, spread = figure.subplots(1, 4)
    decision = recording.decision
    ways = [*_tool_ways(recording), *_object_way(recording)]
    for axes, (across, up) in ((above, (0, 1)), (side, (0, 2))):
        for label, colour, tool in ways:
            axes.plot(tool[:, across], tool[:, up], color=colour, linewidth=0.8, label=label)
        if len(decision):
            goals = _goals(recording)
            if goals.size:
                axes.plot(goals[:, across], goals[:, up], "o", color=GREEN, markersize=4, label="goals")
        axes.set(xlabel="x, m", ylabel="yz"[up - 1] + ", m", aspect="equal", adjustable="datalim")
    above.set_title("tool from above")
    side.set_title("tool from the side")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=max(len(labels), 1), frameon=False)
    for axes, column, factor, title in (
        (distance, "goal_error_m", 1e3, "distance to goal, mm"),
        (spread, "spread", 1.0, "spread of the particles"),
    ):
        _phases(axes, recording)
        axes.plot(*_broken(decision.time_s, factor * decision[column]), color=BLUE, linewidth=0.8)
        axes.set(xlabel="s", title=title, ylim=(0, None))


def _tool_ways(recording: RunRecording) -> list[tuple[str, str, Vector]]:
    """Label, colour and positions (N, 3) m of the tool: under the policy, and otherwise, as on its way home.

    They come from the measured joints, or from the decisions alone if the log does not describe the robot.
    """
    robot, state, timing = _description(recording), recording.state, recording.timing
    decision = recording.decision
    if robot is None or not len(timing) or not len(state):
        return [("policy", BLUE, decision["tool_m"])] if len(decision) else []
    kinematics = ForwardKinematics(robot.kinematics())
    tool = np.array([kinematics.tool_position(joint_pos) for joint_pos in state["joint_pos_rad"]])
    tick = np.searchsorted(timing.time_s, state.time_s, side="right") - 1
    decided = timing["phase"][np.maximum(tick, 0)] == "running"
    # NaN where the other path continues, so that no line is drawn across.
    ways = (("policy", BLUE, decided), ("way home, waiting", GREY, ~decided))
    return [(label, colour, np.where(own[:, None], tool, np.nan)) for label, colour, own in ways if own.any()]


def _object_way(recording: RunRecording) -> list[tuple[str, str, Vector]]:
    """Label, colour and positions (N, 3) m of the object that must reach goals; empty if the tool must."""
    decision = recording.decision
    if not len(decision) or np.array_equal(decision["achieved_m"], decision["tool_m"]):
        return []
    # NaN where nothing was decided, for example while somebody puts the object back.
    broken = np.insert(decision["achieved_m"], _pauses(decision.time_s), np.nan, axis=0)
    return [("object", ORANGE, broken)]


def _broken(time_s: Vector, values: Vector) -> tuple[Vector, Vector]:
    """Two arrays (N,) with NaN where nothing was decided for a while, so that no line is drawn across."""
    pauses = _pauses(time_s)
    return np.insert(time_s, pauses, np.nan), np.insert(values, pauses, np.nan)


def _pauses(time_s: Vector) -> NDArray[np.int64]:
    """Indices of the first decisions after a while without one, from the times (N,) of decisions."""
    return np.flatnonzero(np.diff(time_s) > PAUSE_S) + 1


def _goals(recording: RunRecording) -> NDArray[np.float64]:
    """Distinct goals, (N, 3) m."""
    goals = recording.decision["goal_m"]
    return np.unique(goals, axis=0) if goals.size else np.zeros((0, 3))


def _timing(figure: FigureBase, recording: RunRecording) -> None:
    """Draw the lateness of ticks, the time from sensing to acting, and how far the joints are behind."""
    histogram, over_time, behind = figure.subplots(1, 3)
    timing = recording.timing
    late, acted = (np.maximum(timing[name], FLOOR_US) for name in ("lateness_us", "sense_to_act_us"))
    edges = np.geomspace(FLOOR_US, max(late.max(), acted.max(), 10 * FLOOR_US), 60).tolist()
    for values, colour, label in ((late, BLUE, "lateness"), (acted, ORANGE, "sense to act")):
        p50, p99 = np.percentile(values, (50, 99))
        named = f"{label}: p50 {p50:.0f}, p99 {p99:.0f}, max {values.max():.0f} µs"
        histogram.hist(values, bins=edges, histtype="step", color=colour, linewidth=1.3, label=named)
    histogram.set(xscale="log", yscale="log", xlabel="µs", ylabel="ticks", title="lateness")
    histogram.set_ylim(top=histogram.get_ylim()[1] * 30)  # room for the legend
    histogram.legend(frameon=False, loc="upper left", fontsize=7)
    _phases(over_time, recording)
    over_time.plot(timing.time_s, late, ".", color=BLUE, markersize=2)
    over_time.set(yscale="log", xlabel="s", ylabel="µs", title="lateness over the run")
    _phases(behind, recording)
    behind.plot(recording.state.time_s, 1e3 * _tracking_error(recording), color=BLUE, linewidth=0.8)
    behind.set(xlabel="s", ylim=(0, None), title="largest tracking error of a joint, mrad")


def _tracking_error(recording: RunRecording) -> Vector:
    """Largest difference of a measured joint from its setpoint at that time, (N,) rad, for N states."""
    command, state = recording.command, recording.state
    if not len(state) or not len(command):
        return np.zeros(len(state))
    setpoints = [np.interp(state.time_s, command.time_s, joint) for joint in command["joint_pos_rad"].T]
    error: Vector = np.abs(state["joint_pos_rad"] - np.stack(setpoints, axis=1)).max(axis=1)
    return error


def _events(figure: FigureBase, recording: RunRecording) -> None:
    """Draw phases as colours, and safety events with one line for each kind."""
    phases = set(recording.timing["phase"]) | {"connected", "checked", "parked", "fault"}
    events = [
        (time_s, name)
        for time_s, name in zip(recording.event.time_s, recording.event["name"], strict=True)
        if name not in phases
    ]
    names = list(dict.fromkeys(name for _, name in events))
    counted = [f"{name} ({[n for _, n in events].count(name)})" for name in names]
    left = max([LEFT_IN, *(CHARACTER_IN * (len(label) + 2) for label in counted)]) / WIDTH_IN
    axes = figure.subplots()
    axes.set_position((left, 0.32, 0.99 - left, 0.5))
    _phases(axes, recording, labelled=True)
    for time_s, name in events:
        axes.plot(time_s, names.index(name), "|", color="#a02020", markersize=12, markeredgewidth=1.5)
    axes.set_yticks(range(len(names)), counted)
    axes.spines["left"].set_visible(False)
    title = "phases and safety events" if names else "phases; no safety events"
    if others := _counted(recording, names):
        title = f"phases and safety events; without a time of their own: {others}"
    axes.set(xlabel="s", title=title)
    axes.set_ylim(-0.8, max(len(names), 1) - 0.2)


def _counted(recording: RunRecording, shown: list[str]) -> str:
    """Events that the run's report only counts, such as stale reads."""
    content = recording.attachments.get("report.json")
    counts = {} if content is None else msgspec.json.decode(content).get("safety_events", {})
    return ", ".join(f"{name} ({count})" for name, count in counts.items() if name not in shown)


def _phases(axes: Axes, recording: RunRecording, *, labelled: bool = False) -> None:
    """Colour the background by phase."""
    timing = recording.timing
    phases = timing["phase"]
    starts = [0, *(np.flatnonzero(phases[1:] != phases[:-1]) + 1).tolist()] if len(phases) else []
    shown = set()
    for start, end in zip(starts, [*starts[1:], len(phases) - 1], strict=True):
        phase = phases[start]
        label = phase if labelled and phase not in shown else None
        shown.add(phase)
        colour = PHASE_COLOURS.get(phase, "white")
        axes.axvspan(timing.time_s[start], timing.time_s[end], color=colour, linewidth=0, label=label)
    if len(timing) > 1:
        axes.set_xlim(0, timing.time_s[-1])
    if labelled:
        axes.legend(frameon=False, ncols=max(len(shown), 1), loc="upper right", bbox_to_anchor=(1, -0.2))


def _description(recording: RunRecording) -> RobotDescription | None:
    content = recording.attachments.get("description.json")
    try:
        return None if content is None else msgspec.json.decode(content, type=RobotDescription)
    except msgspec.ValidationError:
        # Another version wrote it: the pictures lack joint names and limits.
        return None


PANELS: dict[str, Callable[[Any, RunRecording], None]] = {
    "joints": _joints,
    "tool": _tool,
    "timing": _timing,
    "events": _events,
}
"""Functions that draw the panels, by name."""


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
