"""How results show themselves."""

from __future__ import annotations

import pandas as pd
import pytest

from cxlab.display import FIRST, LONG, as_html


@pytest.mark.parametrize(("rows", "shown"), [(0, 0), (1, 1), (LONG, LONG), (LONG + 1, FIRST)])
def test_a_long_table_is_cut_and_says_so(rows: int, shown: int) -> None:
    html = as_html("Title", pd.DataFrame({"a": range(rows)}), "A note.")
    assert html.count("<td>") == shown
    assert (f"of {rows:,} rows" in html) == (shown < rows)
    assert html.startswith("<h4>Title</h4>") and html.endswith("<p>A note.</p>")
