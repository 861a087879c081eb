"""What can go wrong for a user, as a tree.

    AuditKitError              base: has a message that names the place and the cure
    ├── UsageError             the command line or a period is wrong           → exit 2
    ├── SettingsError          audit-kit.toml is wrong; names file and line    → exit 2
    ├── CheckError             a check file breaks its contract; names the file → exit 2
    ├── MappingError           fields.toml or an override of it is wrong       → exit 2
    ├── QueryError             an ad-hoc query was refused or failed           → exit 2
    ├── UnreadableDelivery     one delivered file cannot be read; the run goes on
    └── StoreError             the store cannot be opened, written or trusted  → exit 4
        ├── StoreMissing       there is none yet, or nothing was ever committed to it
        └── StoreBusy          another process holds it

Anything else that escapes is a defect of audit-kit.
"""

from __future__ import annotations


class AuditKitError(Exception):
    """Base of every error meant for a user; `exit_code` is what the command line ends with."""

    exit_code = 4


class UsageError(AuditKitError):
    exit_code = 2


class SettingsError(AuditKitError):
    exit_code = 2


class CheckError(AuditKitError):
    exit_code = 2


class MappingError(AuditKitError):
    exit_code = 2


class QueryError(AuditKitError):
    exit_code = 2


class UnreadableDelivery(AuditKitError):
    """A delivered file that cannot be used; collect records the reason and goes on."""


class StoreError(AuditKitError):
    pass


class StoreMissing(StoreError):
    pass


class StoreBusy(StoreError):
    pass
