"""For tests of drivers, policies and links without hardware and without waiting for real time.

``clocks`` has a clock that is moved by hand, one that advances an emulated arm while the bridge waits, and
one with which the control loop runs on a simulated robot as fast as the machine can. ``loopback`` joins a
driver to an emulated device in one thread, and ``memory_log`` keeps a run's log in memory. A driver of your
own is tested against an emulated arm like this::

    clock = EmulationClock()
    arm = EmulatedArm(KinematicRobot(description), clock.now())
    clock.arm = arm
    link = LoopbackLink(make_device(description.protocol, arm), arm, clock)
    driver = MyRobot(description, lambda: link, clock=clock)
    log = MemoryLog()
    report = ControlLoop(driver, policy, LoopConfig(duration_s=2.0), clock=clock, recorder=log).run()
    assert report.limit_violations == arm.witness.commands_outside_limits == 0
"""
