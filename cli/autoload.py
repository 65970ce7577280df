"""Registers wpg's environments when Gymnasium is imported, so that ``gymnasium.make("wpg/…")`` just works.

Gymnasium before 1.0 loaded the entry point group ``gymnasium.envs`` by itself; since then it leaves that to
its users. ``wpg-autoload.pth`` imports this module when the interpreter starts. An import finder then waits
until ``gymnasium`` is imported, registers the ids after that import, and removes itself. It does nothing if
Gymnasium is never imported. Imports in this module slow down every start of the interpreter; there are few.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _AfterGymnasium:
    """Finds Gymnasium with the other finders, and registers wpg's environments once it is imported."""

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
