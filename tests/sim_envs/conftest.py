import pytest

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.hardware_bridge.description import available_robots, load_description
from wpg.sim_envs.engines import ENGINES, make_robot


@pytest.fixture(scope="session")
def description():
    return load_description("panda")


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(params=available_robots())
def any_robot(request, engine):
    """Every shipped arm on every engine."""
    robot = make_robot(load_description(request.param), engine)
    yield robot
    robot.close()


@pytest.fixture
def robot(engine, description):
    robot = make_robot(description, engine)
    yield robot
    robot.close()
