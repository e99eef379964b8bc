"""The command ``mura-skorch cache``."""

import numpy as np
import pytest
from PIL import Image

from mura_skorch.cli.main import main
from mura_skorch.data import Prepare, fill_cache


@pytest.fixture
def folder(tmp_path):
    """A folder with a cache that is used again, and one of an image that has changed."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(8, 32) + number).save(path)
    stale = fill_cache(tmp_path / "cache", paths[:1], Prepare(16))
    with paths[0].open("ab") as file:
        file.write(b"\0")
    used = fill_cache(tmp_path / "cache", paths, Prepare(16))
    return {"path": str(tmp_path / "cache"), "stale": stale.name, "used": used.name}


def test_list_shows_size_views_and_use_of_each_cache(folder, capsys):
    assert main(["cache", "list", folder["path"]]) == 0
    *rows, total = capsys.readouterr().out.splitlines()
    row_of = {row.split()[-1]: row for row in rows}
    assert "3 views" in row_of[folder["used"]]
    assert "in use" in row_of[folder["used"]]
    assert "images have changed" in row_of[folder["stale"]]
    assert total == "2 caches, 0.00 GB"


def test_remove_keeps_what_is_used_again(folder, capsys):
    assert main(["cache", "remove", folder["path"]]) == 0
    assert folder["stale"] in capsys.readouterr().out
    main(["cache", "list", folder["path"]])
    assert capsys.readouterr().out.splitlines()[0].endswith(folder["used"])
    main(["cache", "remove", folder["path"], "--unused-days", "1"])
    assert capsys.readouterr().out == "removed 0 caches, 0.00 GB\n"
    main(["cache", "remove", folder["path"], "--all"])
    assert capsys.readouterr().out.endswith("removed 1 caches, 0.00 GB\n")


@pytest.mark.parametrize("command", ["list", "remove"])
def test_folder_that_does_not_exist_is_named(tmp_path, command):
    with pytest.raises(SystemExit, match="^mura-skorch cache: expected a folder of caches, got"):
        main(["cache", command, str(tmp_path / "absent")])
