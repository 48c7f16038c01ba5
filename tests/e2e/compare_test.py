# SPDX-License-Identifier: Apache-2.0
"""perf/compare runs Manta and its peers in alternation and leaves table, JSON and plot."""

import json
import os
import subprocess
import sys

from programs import BUILD, ROOT, environment


def test_compares_with_what_is_installed(tmp_path):
    result = subprocess.run([sys.executable, os.path.join(ROOT, "perf", "compare"), "-n", "2", "--coll", "allreduce",
                             "--max", "64", "--factor", "16", "--rounds", "1", "--output", str(tmp_path)],
                            capture_output=True, text=True, timeout=150, check=False, env=environment(BUILD=BUILD))
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "compare.json", encoding="utf-8") as file:
        seen = json.load(file)
    assert [row["bytes"] for row in seen["table"]] == [4, 64]
    for row in seen["table"]:
        assert set(row["p50_us"]) == {"manta", "openmpi", "gloo"}, result.stderr
        peers = {name: value for name, value in row["p50_us"].items() if name != "manta"}
        assert row["best_peer"] == min(peers, key=peers.get)
        assert abs(row["ratio"] - min(peers.values()) / row["p50_us"]["manta"]) < 1e-9
    assert "best peer" in (tmp_path / "compare.txt").read_text()
    assert (tmp_path / "compare.png").stat().st_size > 1000
