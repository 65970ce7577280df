"""Template and machine description shared by all HTML pages."""

import os
import platform
from importlib import resources
from pathlib import Path

import jinja2

from wpg.controllers.training.provenance import installed_versions


def template(package: str, name: str) -> jinja2.Template:
    """A page's template, stored in the package that fills it."""
    source = (resources.files(package) / name).read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source)


def machine() -> dict[str, str]:
    """Processor, system, and versions of the packages that a result depends on."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "Python": platform.python_version(),
        **installed_versions(),
    }
