"""The shipped example on real data, offline: the same candidates, whatever the concurrency, and what is asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import assert_nothing_twice, essence, say

from metaharness.loading import shipped_domains

DATA = Path(__file__).parents[3] / "shared" / "data" / "symptom_diagnosis"

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the data is not at {DATA}"),
    pytest.mark.skipif("text_classification" not in shipped_domains(), reason="the example is not there"),
]
FIELDS = ("--data", DATA, "--text-field", "question", "--label-field", "answer")


@pytest.mark.slow
def test_the_example_searches_to_the_same_end_at_concurrency_1_and_32(tmp_path: Path) -> None:
    found = []
    for concurrency in (1, 32):
        name = f"c{concurrency}"
        options = ("-n", 2, "--limit", 8, "-c", concurrency, "--root", tmp_path, "--name", name, "--quiet", "--json")
        said = say("run", "--domain", "text_classification", *FIELDS, *options)
        assert said.code == 0, said.err
        assert said.page["status"] == "all 2 candidates were proposed"
        assert_nothing_twice(tmp_path / name)
        found.append(essence(tmp_path / name))
    assert found[0] == found[1]
    assert [row["state"] for row in found[0]["scoreboard"]] == ["complete"] * 4 + ["rejected"]
