"""What was done: outputs with their receipts, a table with one row an image, and the run's summary.

Nothing here holds a clock or anything random, so that a replayed bundle or a second run writes the same bytes again.
"""

from pipeline.recording.receipts import (
    Output,
    RunInfo,
    WriteWithReceipt,
    canonical_json,
    check_recipe,
    digest_of,
    receipt,
    write_image,
)
from pipeline.recording.tables import (
    OUTCOMES,
    WriteReport,
    failures_of,
    read_rows,
    read_summary,
    repro_of,
    row_of_failure,
    rows_of,
    runs_with,
    table_of,
)

__all__ = [
    "OUTCOMES",
    "Output",
    "RunInfo",
    "WriteReport",
    "WriteWithReceipt",
    "canonical_json",
    "check_recipe",
    "digest_of",
    "failures_of",
    "read_rows",
    "read_summary",
    "receipt",
    "repro_of",
    "row_of_failure",
    "rows_of",
    "runs_with",
    "table_of",
    "write_image",
]
