"""Where a run's folders and models lie."""

from pathlib import Path

import pytest
from support.runs import resolved

from bisieve.errors import BisieveError
from ray_train.run_config import located


@pytest.mark.parametrize("backbone", ["./gone", "/gone", "a/b/c", "empty"])
def test_a_backbone_that_is_not_there_is_found_out_at_once(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BisieveError, match="expected"):
        located(resolved("--backbone", backbone))
