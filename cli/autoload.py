"""Registers wpg's environments when Gymnasium is imported, so that ``gymnasium.make("wpg/…")`` just works.

Gymnasium before 1.0 loaded the entry point group ``gymnasium.envs`` by itself; since then it leaves that to
its users. ``wpg-autoload.pth`` imports this module at interpreter start: one finder waits until ``gymnasium``
is imported, registers the ids after it, and is gone. Where Gymnasium is never imported, nothing happens.
Every interpreter start pays for what is imported here, so that is next to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _AfterGymnasium:
    """Finds Gymnasium as it would be found without us, and registers when it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        import importlib.util  # noqa: PLC0415

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            importlib.import_module("wpg.sim_envs")

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _AfterGymnasium())
