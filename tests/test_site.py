"""The documentation as a site: its pages, and links that fit them. mkdocs itself is not needed."""
import re
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HOOK = runpy.run_path(str(ROOT / 'docs/site_pages.py'))
PAGES = {path.name: path for path in ROOT.glob('docs/*.md')} | {
    page: ROOT / source for source, page in HOOK['PAGES'].items()}


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without the packages that its tags name."""


Loader.add_multi_constructor('tag:yaml.org,2002:python/', lambda loader, suffix, node: suffix)
CONFIG = yaml.load((ROOT / 'mkdocs.yml').read_text(), Loader)


def listed(entries: list) -> list[str]:
    return [page for entry in entries for value in (entry.values() if isinstance(entry, dict) else [entry])
            for page in (listed(value) if isinstance(value, list) else [value])]


def anchors(text: str) -> set[str]:
    headings = re.findall(r'^#+ (.+)$', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S), re.M)
    return {re.sub(r'[^\w -]', '', heading).strip().lower().replace(' ', '-') for heading in headings}


def test_every_document_is_in_the_navigation_once():
    assert sorted(listed(CONFIG['nav'])) == sorted(PAGES)


@pytest.mark.parametrize('page', sorted(PAGES))
def test_links_of_a_page_lead_to_pages_sections_and_pictures_of_the_site(page):
    text = HOOK['site_links'](PAGES[page].read_text(), page)
    text = re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S)
    wrong = []
    for link, anchor in re.findall(r'\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)', text):
        found = PAGES.get(link or page)
        picture = (ROOT / 'docs' / link).is_file() or ((ROOT / link).is_file() and link.startswith('visualisations/'))
        if (found is None and not picture) or (anchor and anchor[1:] not in anchors(found.read_text())):
            wrong.append(link + anchor)
    wrong += [image for image in re.findall(r'<img src="([^"]+)"', text)
              if not (ROOT / 'docs' / image).is_file() and not image.startswith('visualisations/')]
    assert wrong == []


@pytest.mark.parametrize(('page', 'document', 'site'), [
    ('index.md', '[x](docs/install.md), [y](docs/recipes.md#freezing)', '[x](install.md), [y](recipes.md#freezing)'),
    ('index.md', '<img src="docs/figures/tracking.webp">', '<img src="figures/tracking.webp">'),
    ('models.md', '[a](../data/README.md), [b](../checkpoints/)', '[a](data_sets.md), [b](shipped_model.md)'),
    ('models.md', '[the script](../tools/serve.py)', 'the script'),
    ('models.md', '[z](https://a.b/c.md), [here](#models)', '[z](https://a.b/c.md), [here](#models)'),
    ('data_sets.md', '[own](../docs/own_videos.md)', '[own](own_videos.md)'),
    ('models.md', '`[k](../x.md)`', '`[k](../x.md)`'),
    ('index.md', '[to `a` and B](docs/export.md)', '[to `a` and B](export.md)')])
def test_links_are_adapted(page, document, site):
    assert HOOK['site_links'](document, page) == site


def test_the_reference_names_what_exists():
    for name in re.findall(r'^::: (\S+)', (ROOT / 'docs/reference.md').read_text(), re.M):
        module, _, attribute = name.rpartition('.')
        source = (ROOT / f'{module.replace(".", "/")}.py').read_text()
        assert re.search(rf'^(class|def) {attribute}\b', source, re.M), name
