"""First and second starts: bars and the table."""

from __future__ import annotations

import numpy as np
import pytest

from corral_loadtest.engines.starts import Row, cosine, table


@pytest.mark.parametrize(
    ("name", "second_s", "kept"),
    [
        ("openvino-int8", 9.9, True),
        ("openvino-int8", 10.1, False),
        ("torch-int8", 14.9, True),
        ("torch-int8", 15.1, False),
    ],
)
def test_openvino_has_to_be_back_sooner(name: str, second_s: float, kept: bool) -> None:
    row = Row(name=name, first_s=60.0, second_s=second_s, memory_mib=None, top_class=3)
    assert row.kept is kept
    assert ("**missed**" in table([row])) is not kept


def test_a_row_that_did_not_run_says_why_and_fits_the_table() -> None:
    rows = [Row(name="ipex-fp32", reason="no AVX2"), Row(name="torch-int8", memory_mib=1.0)]
    lines = table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "not run: no AVX2" in lines[2]


def test_cosine_knows_direction_and_not_length() -> None:
    vector = np.array([3.0, 4.0], np.float32)
    assert cosine(vector, 2 * vector) == pytest.approx(1.0)
    assert cosine(vector, np.array([4.0, -3.0], np.float32)) == pytest.approx(0.0)
