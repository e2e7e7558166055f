"""The README's promises: commands that exist, files that are there, every command documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cxlab.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "mlruns"} & set(path.relative_to(ROOT).parts[:-1])
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> dict[str, object]:
    tree = get_command(app)
    found: dict[str, object] = {}
    for name, command in tree.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}": item for sub, item in inner.items()} if inner else {name: command}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"cxlab {name}" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    known = commands()
    for line in re.findall(r"`(cxlab [a-z][^`]*)`|^\$ (cxlab [a-z][^#\n]*)", page.read_text("utf-8"), re.M):
        words = (line[0] or line[1]).split()
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in known else words[1]
        assert name in known, line
        options = {option for parameter in known[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in options | {"--help"}, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_two_commands_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert {"run", "test"} <= set(re.findall(r"make ([a-z]+)", README))


def test_no_page_of_ours_holds_a_path_of_somebody_s_machine_or_a_registry_s_address() -> None:
    banned = re.compile(
        r"(^|[\s\"'(=])/(home|root|work|Users)/|py" + r"pi\.org|python" + r"hosted|registry\.np" + "mjs"
    )
    listed = [".md", ".py", ".ipynb", ".yaml", ".yml", ".toml", ".txt"]
    for folder in ("cxlab", "docs", "notebooks", "params", "scripts", "tests", "benchmarks", "data_samples", "."):
        for path in (ROOT / folder).glob("*" if folder == "." else "**/*"):
            if path.suffix in listed and ".venv" not in str(path):
                assert not banned.search(path.read_text(encoding="utf-8")), path
