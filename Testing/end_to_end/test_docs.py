"""The documentation builds without a warning, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s#:]+)[)#]")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="mkdocs comes with the docs extra")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_command_has_its_options_in_the_reference(site):
    page = (site / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    for name in ("demo", "denoise", "purify", "prepare", "train", "compare", "physics", "convert-frames", "phantom"):
        assert f'<h2 id="{name}">' in page
    assert "<td><code>--model NAME|FOLDER</code></td>" in page
    assert "--keep-outside-body" in page and "--resume" in page
    assert "<!-- commands -->" not in page


def test_the_site_has_pictures_and_benchmarks_from_outside_docs(site):
    for name in ("screenshots/denoise.png", "benchmarks/quality/index.html", "benchmarks/quality/real.png"):
        assert (site / name).is_file()
    assert 'src="screenshots/denoise.png"' in (site / "index.html").read_text(encoding="utf-8")


def test_the_api_has_what_scripts_call(site):
    page = (site / "reference" / "python-api" / "index.html").read_text(encoding="utf-8")
    assert re.search(r'id="IPv2Lib\.[\w.]*denoise\.denoise"', page)
    assert re.search(r'id="IPv2Lib\.[\w.]*TrainingSettings"', page)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Testing/benchmarks/README.md"])
def test_links_of_pages_at_the_top_lead_to_files(page):
    for address in LINK.findall((REPOSITORY / page).read_text(encoding="utf-8")):
        assert ((REPOSITORY / page).parent / address).exists(), address


def test_the_readme_stays_short():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200
