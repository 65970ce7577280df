"""The environments are there as soon as Gymnasium is imported, and nothing is imported before."""

import subprocess
import sys

import pytest

FINDERS = "[finder for finder in sys.meta_path if type(finder).__name__ == '_AfterGymnasium']"


def output_of(*lines):
    """What a fresh interpreter prints that imports the module first, as ``wpg-autoload.pth`` does."""
    code = "\n".join(("import sys, wpg.cli.autoload", *lines))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.split()


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import importlib.util; assert importlib.util.find_spec('gymnasium')",
        "sys.modules['numpy'] = None\ntry: import gymnasium\nexcept ImportError: del sys.modules['numpy']",
    ],
    ids=["at once", "looked for", "imported in vain"],
)
def test_importing_gymnasium_registers_the_tasks(before):
    lines = (before, "import gymnasium", "print('wpg/PandaReach-v0' in gymnasium.registry)")
    assert output_of(*lines, f"print(len({FINDERS}))") == ["True", "0"]


def test_nothing_is_imported_before():
    assert output_of("print('gymnasium' in sys.modules, 'wpg.sim_envs' in sys.modules)") == ["False", "False"]
