import pytest

import wpg.sim_envs  # noqa: F401  registers the environments
from wpg.hardware_bridge.description import load_description
from wpg.sim_envs.engines import ENGINES, make_robot


@pytest.fixture(scope="session")
def description():
    return load_description("panda")


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def robot(engine, description):
    robot = make_robot(description, engine)
    yield robot
    robot.close()
