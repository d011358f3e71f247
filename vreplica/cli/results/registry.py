"""Every kind of result by its name, and their JSON schema. A new kind is one line here."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from vreplica.cli.results import failover, replication, service, tools
from vreplica.cli.results.common import ErrorDocument

KINDS: Final[dict[str, Any]] = {
    "error": ErrorDocument,
    "demo": replication.Demo,
    "check": replication.Check,
    "plan": replication.Plan,
    "run": replication.Run,
    "points": replication.Points,
    "retention": replication.Retention,
    "seed": replication.Seed,
    "verify": replication.Verify,
    "verify-report": replication.VerifyReport,
    "asked": replication.AskedRun,
    "failover-preview": failover.Preview,
    "failover-preview-group": failover.GroupPreview,
    "undo-preview": failover.UndoPreview,
    "undo-preview-group": failover.GroupUndoPreview,
    "failover": failover.Outcome,
    "failover-group": failover.GroupOutcome,
    "failover-adopted": failover.Adopted,
    "failover-adopted-group": failover.AdoptedGroup,
    "failover-record": failover.Record,
    "failover-history": failover.History,
    "failover-history-group": failover.GroupHistory,
    "test-failover": failover.TestFailover,
    "test-failover-removed": failover.TestsRemoved,
    "status": service.Status,
    "status-service": service.StatusService,
    "history": service.History,
    "job": service.JobListed,
    "failover-listed": service.FailoverListed,
    "audit": service.AuditEntry,
    "schedule": service.Schedule,
    "catalog-rebuilt": service.Rebuilt,
    "catalog-migrated": service.Migrated,
    "notify": service.Notified,
    "init": tools.Init,
    "thumbprint": tools.Thumbprint,
    "lab": tools.LabSites,
    "lab-stopped": tools.LabStopped,
    "lab-rule": tools.LabRule,
    "lab-nfc-rule": tools.LabNfcRule,
    "lab-rules": tools.LabRules,
    "lab-cleared": tools.LabCleared,
    "lab-vm": tools.LabVm,
    "lab-written": tools.LabWritten,
    "lab-connected": tools.LabConnected,
    "lab-scenario": tools.LabScenario,
}
"""The values of `result`, each with the keys that its document has."""


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of one document: one of all kinds, told apart by `result`."""
    schemas, definitions = TypeAdapter.json_schemas(
        [(kind, "serialization", TypeAdapter(shape)) for kind, shape in KINDS.items()],
        ref_template="#/$defs/{model}",
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of vreplica-sync --json",
        "oneOf": [_of_kind(name, schemas[name, "serialization"]) for name in KINDS],
        "$defs": _closed(definitions.get("$defs", {})),
    }


def _of_kind(name: str, shape: Any) -> dict[str, Any]:
    return {"allOf": [shape], "properties": {"result": {"const": name}}}


def _closed(definitions: dict[str, Any]) -> dict[str, Any]:
    """Objects with named keys have no others."""
    for shape in definitions.values():
        if "properties" in shape:
            shape.setdefault("additionalProperties", False)
    return definitions
