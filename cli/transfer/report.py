"""The self-contained page of a transfer: one sentence, then figures, then numbers."""

import time
from collections.abc import Sequence
from typing import Any

from wpg.cli.pages import machine, template
from wpg.cli.transfer import figures
from wpg.cli.transfer.measures import Cause
from wpg.cli.transfer.result import Agreement, TransferResult
from wpg.cli.transfer.study import Study
from wpg.cli.transfer.verdict import describe


def render(studies: Sequence[Study], result: TransferResult) -> str:
    """The page as HTML."""
    return template("wpg.cli.transfer", "report.html.j2").render(
        result=result,
        title=f"From {result.from_} to {result.to}",
        written=time.strftime("%Y-%m-%d %H:%M"),
        ranking=figures.ranking(result.policies) if len(studies) > 1 else None,
        sections=[_section(study) for study in studies],
        versions=list(machine().items()),
    )


def _section(study: Study) -> dict[str, Any]:
    result = study.result
    agreements = [one for one in (result.agreement, result.unfitted) if one is not None]
    return {
        "result": result,
        "agreements": agreements,
        "places": [*(one.simulator for one in agreements), result.to],
        "success": figures.success([*(one.simulator for one in agreements), result.to]),
        "course": figures.course(study),
        "goals": figures.places(study),
        "errors": figures.errors(study),
        "parting": figures.parting(study),
        "joints": figures.joints(study),
        "causes": [(one.simulator.place, [describe(cause) for cause in _worth(one)]) for one in agreements],
        "tolerance_mm": 1000 * study.tolerance_m,
    }


def _worth(agreement: Agreement) -> list[Cause]:
    """Causes that explain at least 5 % of the replay gap."""
    return [cause for cause in agreement.causes if cause.share >= 0.05]
