"""Check the output and the pictures of `python -m rwkv_np cost`."""

import re

import pytest

from rwkv_np.study import cost_report


@pytest.mark.slow
def test_the_report_prints_exponents_and_draws_its_pictures(tmp_path, capsys):
    cost_report.run(quick=True, out=tmp_path / "new" / "folder")
    out = capsys.readouterr().out
    rows = re.findall(r"^  (\S.*?, .*?)  +(-?[\d.]+) ", out, re.MULTILINE)
    fitted = {key.strip(): float(value) for key, value in rows}
    assert fitted["RWKV-4, state"] == 0 and fitted["softmax attention, state"] == 1
    assert fitted["softmax attention, memory"] > 1.7 and 0.8 < fitted["RWKV-4, memory"] < 1.2      # counted, not timed
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["cascade.png", "memory.png", "time.png"]


def test_a_skipped_length_is_said_with_its_reason(capsys):
    rows = {"lengths": [64], "skipped": [10**6], "time": [[1e-3]], "memory": [[2e6]], "time per token": [[5e-6]],
            "state": [[3e3]]}
    cost_report.print_table("softmax attention", rows)
    out = capsys.readouterr().out
    assert re.search(r"64 +1\.0 +2\.0 +5 +3\.0", out)
    assert "1000000  skipped: it requires 17000.0 GB, over 40% of the free memory" in out
