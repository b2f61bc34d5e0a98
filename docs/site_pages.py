"""Hook of mkdocs (mkdocs.yml): adds the pages and pictures outside of docs/, and adapts links to the site.

The documents are written to be read in the repository, where links are relative to the file. Links to files that are
not part of the site, such as scripts, become their names.
"""
from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# page of the site by its path in the repository
PAGES = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md',
         'SECURITY.md': 'security.md', 'data/README.md': 'data_sets.md', 'checkpoints/README.md': 'shipped_model.md'}
_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)|(<img src=")([^"]+)(")')


def on_files(files: Any, config: Any) -> Any:
    """Add pages and pictures to the site."""
    from mkdocs.structure.files import File
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding='utf-8')))
    for picture in sorted(ROOT.glob('visualisations/*.gif')):
        files.append(File.generated(config, f'visualisations/{picture.name}', abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Adapt the links of a page."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, page: str) -> str:
    """Return the text of a page with links that fit the site.

    Args:
        markdown: text of the document in the repository.
        page: path of the page on the site.
    """
    document = _SOURCES.get(page, f'docs/{page}')

    def replaced(match: re.Match) -> str:
        if match[5]:
            return f'{match[5]}{_target(match[6], document) or match[6]}{match[7]}'
        mark, text, link, anchor = match[1], match[2], match[3], match[4] or ''
        if not link or '://' in link or link.startswith('mailto:'):
            return match[0]
        target = _target(link, document)
        return text if target is None else f'{mark}[{text}]({target}{anchor})'

    # code is left as it is; the text of a link may contain code
    parts = re.split(r'(^```.*?^```$|`[^`\n]*\]\([^`\n]*`)', markdown, flags=re.M | re.S)
    return ''.join(part if place % 2 else _LINK.sub(replaced, part) for place, part in enumerate(parts))


def _target(link: str, document: str) -> str | None:
    """Return the place on the site of what a document links to; None if it is not part of the site."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(document), link))
    if link.endswith('/') and (ROOT / path / 'README.md').is_file():
        path += '/README.md'
    if path in PAGES:
        return PAGES[path]
    if path.startswith('docs/') and not path.endswith('.py'):
        return path.removeprefix('docs/')
    return path if path.startswith('visualisations/') else None
