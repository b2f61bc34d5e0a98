"""What the documents name exists: files and folders in backticks, and the targets of links."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('*/README.md')])
TOP = ('mmdet', 'configs', 'tools', 'tests', 'docs', 'checkpoints', 'visualisations')
EXAMPLES = {'configs/mine.py', 'configs/_base_/datasets/NAME.py'}  # that a reader would make


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_links_of_a_document_exist(document: Path) -> None:
    text = document.read_text()
    quoted = re.findall(rf'`((?:{"|".join(TOP)})/[\w./*-]*\w/?)`', text)
    missing = [path for path in quoted if path not in EXAMPLES and not list(ROOT.glob(path.rstrip('/')))]
    links = re.findall(r'\]\((?!https?:|#|mailto:)([^)#\s]+)', text) + re.findall(r'<img src="([^"]+)"', text)
    missing += [link for link in links if not (document.parent / link).exists()]
    assert not missing
