"""From an artefact to a moving arm: links, device protocols, safety, the real-time loop, the emulator.

Runs without torch and without a simulator.

Exceptions::

    BridgeError (RuntimeError)
    ├── DescriptionError (ValueError)     a robot's description does not hold together
    ├── LinkError (ConnectionError)       the link cannot be opened, or has died
    ├── ProtocolError                     the device answers, but not as this protocol or this robot
    └── StaleStateError (TimeoutError)    no fresh state arrived in time

An artefact that does not fit the robot raises :class:`wpg.export.ContractError`.
"""
