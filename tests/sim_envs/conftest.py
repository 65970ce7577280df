import pytest

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.hardware_bridge.description import load_description, shipped_robots
from wpg.sim_envs.engines import ENGINES, make_robot


@pytest.fixture(scope="session")
def description():
    return load_description("panda")


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(params=[name for name in shipped_robots() if load_description(name).bus is None])
def any_description(request):
    """Every shipped arm without a servo bus."""
    return load_description(request.param)


@pytest.fixture
def any_robot(any_description, engine):
    """Every shipped arm without a servo bus, on every engine."""
    robot = make_robot(any_description, engine)
    yield robot
    robot.close()


@pytest.fixture
def robot(engine, description):
    robot = make_robot(description, engine)
    yield robot
    robot.close()
