"""The report that hangs on a version's run."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxlab.errors import DataError
from cxlab.tracking.artifacts import fetched
from cxlab.tracking.records import REPORT_FACTS, REPORT_PAGE
from cxlab.tracking.registry import find_version
from cxlab.tracking.store import store


@dataclass(frozen=True)
class Filed:
    """A report as it was logged.

    Attributes:
        path: The page.
        facts: Its facts.
        run_id: The run it hangs on.
    """

    path: Path
    facts: dict[str, Any]
    run_id: str

    @property
    def page(self) -> str:
        """The page's HTML."""
        return self.path.read_text(encoding="utf-8")

    @property
    def weights(self) -> dict[str, float]:
        """How much the model uses each column: shares, or of a model that is not trees the loss that each saves."""
        told = self.facts["importance"]
        if any(row["share"] is None for row in told):
            return {row["feature"]: max(row["value"], 0.0) for row in told}
        return {row["feature"]: row["share"] for row in told}


def report_of(name: str, version: str) -> Filed:
    """The report of a registered version.

    Raises:
        ParamsError: There is no such model or version.
        DataError: Its run has no report.
    """
    with store() as client:
        found = find_version(client, name, version)
        there = {item.path for item in client.list_artifacts(found.run_id, "report")}
        if not {REPORT_PAGE, REPORT_FACTS} <= there:
            raise DataError(
                f"{name} version {found.version} was logged without a report. Train it again: cxlab run {name}"
            )
        page, facts = (fetched(client, found.run_id, path) for path in (REPORT_PAGE, REPORT_FACTS))
    return Filed(page, json.loads(facts.read_text(encoding="utf-8")), found.run_id)


def keep_page(filed: Filed, page: str) -> None:
    """Files a page anew, with what was decided on it; its facts stay."""
    with store() as client, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(REPORT_PAGE).name
        path.write_text(page, encoding="utf-8")
        client.log_artifact(filed.run_id, str(path), str(Path(REPORT_PAGE).parent))
