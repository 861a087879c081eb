"""The method in words, said once for every report form."""

from __future__ import annotations

METHOD: tuple[tuple[str, str], ...] = (
    (
        "Period",
        "A period is half-open: an event at its first instant is in it, an event at its last instant is in "
        "the next one. All instants are UTC. Grants and other standing facts are those known at the as-of "
        "instant.",
    ),
    (
        "Findings",
        "A check is a question put to the collected events as SQL; every row of its answer is a finding "
        "about one entity. A finding is evidence relevant to the controls it names. Neither a finding nor "
        "its absence is an opinion on whether a control works: that is the auditor's to give.",
    ),
    (
        "Severity",
        "Critical, high, medium, low. Each check has a ceiling that none of its findings exceeds; a finding "
        "may be less severe than the ceiling where the numbers behind it are.",
    ),
    (
        "Inconclusive and not judged",
        "A finding is inconclusive where the log does not allow a verdict, for instance because of a gap or "
        "because a grant is younger than the look-back of the check; the reason is given with it. A check "
        "could not judge where what it needs was not collected at all. Neither counts as clean.",
    ),
    (
        "Identity",
        "The id of a finding is a hash of check and entity and stays the same from period to period. Its "
        "occurrence adds the period; links in this report use the occurrence.",
    ),
    (
        "Completeness",
        "Every delivered file is read whole or skipped with a reason. Every event read is kept, rejected "
        "with a reason, recognised as a duplicate, or left out because it names another resource; the four "
        "add up to what was read. A gap is a run of silent hours in which events were to be expected.",
    ),
    (
        "Traceability",
        "Each finding lists up to five events with the file and row they were read from, and the SQL that "
        "lists them all when run on the store in a DuckDB shell. Names are shown on one line and cut when "
        "long; invisible characters appear as ⟨U+XXXX⟩. The JSON form holds every value as it came.",
    ),
    (
        "Reproducibility",
        "The report depends only on the store, the period and the settings. The hashes in its head name the "
        "checks, settings and mapping it was made with: the same input gives the same bytes.",
    ),
)
