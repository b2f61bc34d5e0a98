"""What the documents name exists: files and folders in backticks, targets of links, scripts and flags of commands."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('*/README.md')])
TOP = ('mmdet', 'notebooks', 'configs', 'tools', 'tests', 'docs', 'checkpoints', 'visualisations')
EXAMPLES = {'configs/mine.py', 'configs/_base_/datasets/NAME.py'}  # that a reader would make


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_links_of_a_document_exist(document: Path) -> None:
    text = document.read_text()
    quoted = re.findall(rf'`((?:{"|".join(TOP)})/[\w./*-]*\w/?)`', text)
    missing = [path for path in quoted if path not in EXAMPLES and not list(ROOT.glob(path.rstrip('/')))]
    links = re.findall(r'\]\((?!https?:|#|mailto:)([^)#\s]+)', text) + re.findall(r'<img src="([^"]+)"', text)
    missing += [link for link in links if not (document.parent / link).exists()]
    assert not missing


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', document.read_text(), re.M)
    return {re.sub(r'[^\w -]', '', heading).strip().lower().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_sections_of_a_document_exist(document: Path) -> None:
    links = re.findall(r'\]\(([\w./-]*)#([\w-]+)\)', document.read_text())
    assert [link for link in links if link[1] not in anchors(document.parent / link[0] if link[0] else document)] == []


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_and_flags_of_the_commands_exist(document: Path) -> None:
    text = document.read_text().replace('\\\n', ' ')
    commands = re.findall(r'\bpython (?:-\w )*([\w/]+\.py)([^\n`#]*)', text)
    wrong = []
    for script, words in commands:
        if not (ROOT / script).is_file():
            wrong.append(script)
            continue
        known = (ROOT / script).read_text() + (ROOT / 'mmdet/apis/cli.py').read_text()
        flags = {flag.replace('-', '_').lstrip('_') for flag in re.findall(r'\s--([\w-]+)', words)}
        wrong += [f'{script} --{flag}' for flag in sorted(flags) if f"'--{flag}'" not in known]
    assert not wrong


def test_the_front_page_is_short() -> None:
    text = re.sub(r'^```.*?^```', '', (ROOT / 'README.md').read_text(), flags=re.M | re.S)
    prose = [line for line in text.splitlines() if not line.startswith(('|', '<img', '!['))]
    assert 400 < len(' '.join(prose).split()) < 700


def test_the_table_of_models_names_every_config() -> None:
    text = (ROOT / 'docs/models.md').read_text()
    assert [path.stem for path in sorted(ROOT.glob('configs/*.py')) if f'`{path.stem}`' not in text] == []
