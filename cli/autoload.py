"""Registers wpg's environments when Gymnasium is imported, so that ``gymnasium.make("wpg/…")`` just works.

Gymnasium before 1.0 loaded the entry point group ``gymnasium.envs`` by itself; since then it leaves that to
its users. ``wpg-autoload.pth`` imports this module when the interpreter starts. An import finder then waits
until ``gymnasium`` is imported, registers the ids after that import, and removes itself. It does nothing if
Gymnasium is never imported. Imports in this module slow down every start of the interpreter; there are none.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _AfterGymnasium:
    """Finds Gymnasium by the other finders, and registers wpg's environments once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    break
        else:
            return None
        if spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            # Only now: some look for Gymnasium without importing it, and an import may fail and be repeated.
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            import wpg.sim_envs  # noqa: F401, PLC0415  registers them

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _AfterGymnasium())
