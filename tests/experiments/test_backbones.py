import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments" / "backbones.py"


def test_table_has_size_speed_and_exactness_of_each_backbone(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT), run_name="backbones")["main"]
    names = ["timm:test_resnet", "timm:test_efficientnet"]
    out = tmp_path / "record"
    arguments = ["--image-size", "32", "--rounds", "1", "--precision", "float32"]
    assert main(["--backbones", *names, *arguments, "--out", str(out)]) == 0
    page = (out / "README.md").read_text()
    assert capsys.readouterr().out.strip() in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| timm:")]
    assert [row[0].removeprefix("| ") for row in rows] == names
    for row in rows:
        n_millions, _, error, predict, _, train, _ = row[1:]
        assert float(error) < 1e-5
        assert min(float(n_millions), float(predict), float(train)) > 0
    assert "float32" in page
