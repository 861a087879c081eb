"""The wheel carries all that the tool needs, and works far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation: hatchling is in the development environment already.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


def test_queries_templates_and_catalogues_travel_in_the_wheel(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("queries", "reports"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"audit_kit/_data/{file.relative_to(ROOT).as_posix()}" in names


def test_the_installed_tool_runs_the_demo_outside_the_checkout(wheel: Path, tmp_path: Path):
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    constraints = str(ROOT / "constraints.txt")
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    subprocess.run([*pip, str(wheel)], check=True)
    kit = str(environment / "bin" / "audit-kit")
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([kit, *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True)

    made = run("demo", "--out", "demo", "--events", "20000")
    assert made.returncode == 0, made.stderr
    done = run("run", "--config", "demo/audit-kit.toml", "--out", "demo")
    assert done.returncode == 1, done.stderr  # findings of severity high
    assert "over_broad_scopes" in done.stdout
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert "pyarrow" not in subprocess.run([*pip[:1], "list"], capture_output=True, text=True, check=True).stdout
