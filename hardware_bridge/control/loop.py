"""The control loop: reads the robot, asks the policy and commands the arm at the robot's servo rate."""

from collections import Counter
from collections.abc import Callable, Sequence

from wpg.hardware_bridge.clock import Clock, RealClock
from wpg.hardware_bridge.control.attended_arm import AttendedArm
from wpg.hardware_bridge.control.checks import check_gripper, check_interface, check_stop
from wpg.hardware_bridge.control.emergency_stop import EmergencyStop
from wpg.hardware_bridge.control.goals import GoalResult
from wpg.hardware_bridge.control.hazard_monitor import FINAL, STANDING, HoldCounter
from wpg.hardware_bridge.control.homing import Homing, PutBack
from wpg.hardware_bridge.control.lifecycle import Lifecycle
from wpg.hardware_bridge.control.loop_config import LoopConfig, make_goals
from wpg.hardware_bridge.control.policy_runner import PolicyRunner
from wpg.hardware_bridge.control.report import RunReport, report_run
from wpg.hardware_bridge.control.soft_start import SoftStart
from wpg.hardware_bridge.control.start_conditions import StartConditions
from wpg.hardware_bridge.control.target_limiter import WORKSPACE_MARGIN_M
from wpg.hardware_bridge.errors import BridgeError, LinkError
from wpg.hardware_bridge.hazard import Hazard
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.hardware_bridge.phase import Phase
from wpg.hardware_bridge.policy import Policy
from wpg.hardware_bridge.robot import JointCommand, Robot, RobotState, RobotStatus
from wpg.hardware_bridge.run_log.recorder import NoRecorder, Recorder
from wpg.hardware_bridge.sources.source import Feed, Source

STOPPING_TIMEOUT_S = 2.0


class ControlLoop:
    """One run of a policy on a robot, from connecting to leaving it parked.

    Args:
        robot: not yet connected; closed at the end of :meth:`run`.
        policy: the policy to run.
        config: what the run is to do.
        should_stop: asked at every tick; any answer but "" ends the run and says why.
        emergency: asked at every tick as well; a request holds the arm at once, and the arm is then watched
            until it is seen at rest.
        enough: asked after every goal, with the results so far; True ends the run as the last goal does.
        sources: feed the observation terms from outside the robot; not yet connected, closed at the end.
        put_back: sees to objects that are out of reach; if None, such an object ends the run.
        recorder: takes a record of everything that happens.

    Raises:
        ContractError: the policy does not fit the robot, the sources or the goals of the configuration.
    """

    def __init__(
        self,
        robot: Robot,
        policy: Policy,
        config: LoopConfig,
        *,
        clock: Clock | None = None,
        should_stop: Callable[[], str] = lambda: "",
        emergency: EmergencyStop | None = None,
        enough: Callable[[Sequence[GoalResult]], bool] = lambda results: False,
        sources: Sequence[Source] = (),
        put_back: PutBack | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        terms = [name for source in sources for name in source.terms]
        pipelines = check_interface(policy.interface, robot.description, terms)
        self._interface = policy.interface
        self._robot = robot
        self._config = config
        self._clock = clock or RealClock()
        self._should_stop = should_stop
        self._emergency = emergency or EmergencyStop()
        self._enough = enough
        self._recorder = recorder or NoRecorder()
        self._ticks_per_step = pipelines.ticks_per_step
        self._feed = Feed(policy.interface, sources, self._clock)
        self._runner = PolicyRunner(
            policy,
            pipelines,
            make_goals(policy.interface, config),
            self._feed,
            clock=self._clock,
            recorder=self._recorder,
        )
        self._start = StartConditions(
            policy.interface, robot.description, opens=pipelines.action.moves_gripper
        )
        self._lifecycle = Lifecycle(self._clock, self._on_phase)
        self._arm = AttendedArm(
            robot, config.safety, clock=self._clock, emergency=self._emergency, feed=self._feed
        )
        self._motion = self._arm.motion
        self._sense_to_act = LatencyHistogram()
        self._events: Counter[str] = Counter()
        self._holds = HoldCounter(config.safety)
        self._soft_start = SoftStart(config, self._motion, self._clock)
        self._homing = Homing(
            self._runner,
            self._start,
            self._motion,
            self._soft_start,
            self._lifecycle,
            put_back=put_back,
            end=self._end,
            clock=self._clock,
        )
        self._held_phase = Phase.ARMED
        """The phase that the last hold interrupted."""
        self._end_reason = ""
        self._message = ""
        self._next_step = 0
        self._start_s = self._clock.now()

    def run(self) -> RunReport:
        """Connect, run the policy, and leave the robot stopped whatever happens.

        Raises:
            LinkError: the robot or a source cannot be reached.
            StaleStateError: the robot or a source sends nothing.
            ProtocolError: another robot answers, or the robot refuses to arm.
            BridgeError: the arm stands where it must not be armed, or cannot stop as configured.
            ContractError: the policy needs a gripper, and the robot reports none.

        In all these cases torque was never enabled; later failures end the run with a report instead.
        """
        try:
            self._robot.connect()
            self._lifecycle.enter(Phase.CONNECTED)
            check_stop(self._robot, self._config.final_stop)
            # Sources are waited for here, before torque is on.
            self._feed.connect()
            state = self._arm.reader.first()
            check_gripper(self._interface, self._robot.description, state)
            self._arm.check_place(state)
            self._lifecycle.enter(Phase.CHECKED)
            self._run_armed()
        finally:
            self._feed.close()
            self._robot.close()
        return self._report()

    def _run_armed(self) -> None:
        self._arming_s = self._clock.now()
        source, reason = self._emergency.source, self._should_stop()
        if source or reason:
            stop = f"emergency stop by {source}" if source else f"stopped by {reason}"
            raise BridgeError(f"{stop} before the arm was armed: torque is not on by our doing")
        try:
            self._arm.modes.arm_first()
            self._start_from_here()
            self._tick_until_over()
        except LinkError as error:
            self._end("link_dead", str(error))
        except BridgeError as error:
            if self._arm.modes.refused:
                raise
            self._end("arming_failed", str(error))
        except BaseException as error:
            self._end("internal_error", f"{type(error).__name__}: {error}")
            raise
        finally:
            # A robot that refused to arm may be in somebody else's run, which a stop would end.
            if not self._arm.modes.refused:
                self._park()

    def _start_from_here(self) -> None:
        """Begin to command a robot that has just armed, from where it stands."""
        self._arm.start()
        self._soft_start.begin()
        self._runner.reset()
        self._lifecycle.enter(Phase.ARMED)
        # Arming waits for the robot's answer: the periods that pass meanwhile are not missed deadlines.
        self._arm.timer.restart()

    def _tick_until_over(self) -> None:
        while True:
            index = self._arm.timer.wait()
            if self._emergency.source:
                return
            self._tick(index)
            if self._lifecycle.phase is Phase.STOPPING and (
                self._motion.at_rest or self._lifecycle.age_s > STOPPING_TIMEOUT_S
            ):
                return

    def _tick(self, index: int) -> None:
        sense_s = self._clock.now()
        state = self._arm.reader.read()
        for name, value, age_s in self._feed.poll():
            self._recorder.source(time_s=sense_s - self._start_s, name=name, value=value, age_s=age_s)
        self._end_if_over()
        if hazard := self._arm.monitor.interruption(state):
            self._hold(hazard)
        match self._lifecycle.phase:
            case Phase.ARMED | Phase.HOMING | Phase.WAITING | Phase.RUNNING:
                self._watch(state)
            case Phase.HOLDING:
                self._relieve(state)
                self._recover(state)
            case Phase.STOPPING:
                self._relieve(state)
        if self._lifecycle.phase is Phase.RUNNING and index >= self._next_step:
            self._step(index)
        command = self._command()
        latency_s = self._clock.now() - sense_s
        self._sense_to_act.record(latency_s)
        self._recorder.tick(
            time_s=sense_s - self._start_s,
            phase=self._lifecycle.phase,
            state=state,
            command=command,
            lateness_s=self._arm.timer.last_lateness_s,
            sense_to_act_s=latency_s,
        )

    def _end_if_over(self) -> None:
        if self._lifecycle.phase is Phase.STOPPING:
            return
        duration_s = self._config.duration_s
        if reason := self._should_stop():
            self._end("stopped", reason)
        elif duration_s is not None and self._clock.now() - self._arming_s >= duration_s:
            self._end("duration", "")

    def _watch(self, state: RobotState | None) -> None:
        """Hold if something is wrong; else let the policy begin once the arm and the object are ready."""
        if hazard := self._hazard(state, commanded=True):
            self._hold(hazard)
        elif self._lifecycle.phase is Phase.ARMED:
            if state is not None and self._lifecycle.age_s >= self._config.settle_s:
                self._homing.begin(state)
        elif self._lifecycle.phase in (Phase.HOMING, Phase.WAITING):
            self._homing.go_on(state, seen=self._arm.monitor.stale_source() is None)

    def _hazard(self, state: RobotState | None, *, commanded: bool) -> Hazard | None:
        phase = self._held_phase if self._lifecycle.phase is Phase.HOLDING else self._lifecycle.phase
        return self._arm.monitor.hazard(state, commanded=commanded, fed=phase is Phase.RUNNING)

    def _hold(self, hazard: Hazard) -> None:
        """Brake the arm and hold it; or end the run, if the hazard is final or there were too many holds."""
        self._event(hazard.name, hazard.detail)
        if hazard.name in FINAL:
            self._end(hazard.name, hazard.detail)
        elif reason := self._holds.begin(hazard, self._clock.now()):
            self._end(hazard.name, reason)
        else:
            self._held_phase = self._lifecycle.phase
            self._lifecycle.enter(Phase.HOLDING, hazard.name)
        if hazard.name in STANDING:
            self._stand(hazard)

    def _stand(self, hazard: Hazard) -> None:
        """Let the device hold the arm where it stands, unless somebody else has stopped it."""
        state = self._arm.reader.state
        assert state is not None
        self._motion.start(state.joint_pos, state.gripper_m)
        if hazard.name == "device_stop":
            return
        try:
            self._arm.modes.hold()
        except BridgeError as error:
            self._end(hazard.name, f"{hazard.detail}; {error}")
        # The order waits for the robot's answer: the periods that pass meanwhile are not missed deadlines.
        self._arm.timer.restart()

    def _relieve(self, state: RobotState | None) -> None:
        """Stop pressing: an arm that is braked by setpoints may meet an obstacle, too."""
        if not self._arm.modes.silent and (hazard := self._arm.monitor.blocked(state)):
            self._event(hazard.name, hazard.detail)
            self._holds.persists(hazard, self._clock.now())
            self._stand(hazard)

    def _recover(self, state: RobotState | None) -> None:
        """Go on once the arm rests and all has been well for a while; end the run if that takes too long."""
        timeout_s, cause = self._config.safety.hold_timeout_s, self._holds.cause
        if hazard := self._hazard(state, commanded=False):
            cause = hazard
            self._holds.persists(hazard, self._clock.now())
        if cause.name in FINAL:
            self._hold(cause)
        elif self._lifecycle.age_s > timeout_s:
            self._end(cause.name, f"held for {timeout_s:g} s: {cause.detail}")
        elif state is not None and self._motion.at_rest and self._holds.is_well(self._clock.now()):
            self._go_on(state)

    def _go_on(self, state: RobotState) -> None:
        if state.status is RobotStatus.ARMED:
            self._motion.resume()
            self._soft_start.begin()
            self._runner.reset()
            self._homing.begin(state, "recovered")
        else:
            # The arm may have come to rest at the edge of the box, and sagged from there if it was released.
            self._arm.check_place(state, WORKSPACE_MARGIN_M)
            self._arm.modes.rearm()
            self._event("rearmed", "")
            self._start_from_here()

    def _step(self, index: int) -> None:
        """Do a policy step with the newest state; hold instead if a reading from a source is too old."""
        state = self._arm.reader.state
        if state is None:
            return
        # While arming and homing, the object may be out of sight: its reading is first needed here.
        if hazard := self._arm.monitor.stale_source():
            self._hold(hazard)
            return
        # Steps stay on their time grid, unless a whole step was missed or the arm was held.
        on_grid = index - self._next_step < self._ticks_per_step
        self._next_step = (self._next_step if on_grid else index) + self._ticks_per_step
        self._soft_start.grow()
        time_s = self._clock.now() - self._start_s
        if self._runner.goal_over(state, time_s):
            if self._runner.finished or self._enough(self._runner.results):
                self._end("goals_done", "")
                return
            if not self._start.allow(state, self._runner.achieved_pos(state)):
                self._homing.begin(state)
                return
        target = self._runner.step(state, self._motion.target, time_s)
        if target is not None:
            place, spread = self._motion.joint_pos, self._runner.spread
            self._motion.set_target(self._arm.limiter.shorten(target, place, spread))
            if self._runner.opening_m is not None:
                self._motion.set_opening(self._runner.opening_m)
        else:
            self._hold(Hazard("non_finite_action", "the policy's action is not finite"))

    def _command(self) -> JointCommand:
        if self._arm.modes.silent:
            return self._motion.stand()
        if self._lifecycle.phase in (Phase.HOLDING, Phase.STOPPING):
            return self._motion.brake()
        return self._motion.follow()

    def _end(self, reason: str, message: str) -> None:
        """End the run. Only the first reason counts; an emergency stop replaces it (see :meth:`_park`)."""
        if not self._end_reason:
            self._end_reason, self._message = reason, message
        if self._lifecycle.phase is not Phase.STOPPING:
            self._lifecycle.enter(Phase.STOPPING, reason)

    def _park(self) -> None:
        stopped = self._arm.modes.leave(self._config.final_stop)
        source = self._emergency.source
        if source:
            seen = stopped.trouble or stopped.detail
            self._event("emergency_stop", f"by {source}: {seen}")
            # Reported even if something else ended the run before: somebody waits for this answer.
            self._end_reason = ""
            self._end("emergency_stop", f"by {source}: {seen}")
        else:
            told = stopped.trouble
            if not stopped.confirmed:
                cause = "" if told in self._message else f" ({told})"
                told = (
                    f"the arm was not seen to stop{cause}: it should hold by itself, "
                    "use the hardware stop if it does not"
                )
            self._message = "; ".join(filter(None, (self._message, told)))
        if stopped.trouble:
            self._event("stop_unconfirmed", stopped.trouble)
        self._lifecycle.enter(Phase.PARKED if stopped.confirmed else Phase.FAULT, stopped.trouble)

    def _on_phase(self, phase: Phase, reason: str) -> None:
        self._recorder.event(time_s=self._clock.now() - self._start_s, name=phase, detail=reason)

    def _event(self, name: str, detail: str) -> None:
        self._events[name] += 1
        self._recorder.event(time_s=self._clock.now() - self._start_s, name=name, detail=detail)

    def _report(self) -> RunReport:
        return report_run(
            self._arm.timer,
            self._arm.reader,
            self._runner,
            self._homing,
            self._motion,
            events={**self._events, **self._motion.events, **self._arm.limiter.events},
            sense_to_act=self._sense_to_act,
            sources=self._feed.report(),
            end_reason=self._end_reason,
            message=self._message,
            final_phase=self._lifecycle.phase,
        )
