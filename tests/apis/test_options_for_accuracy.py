"""The table of options in docs/training.md: each switch works as it is written, and the published values are right."""
import re
from functools import reduce
from pathlib import Path

import pytest

from mmdet.apis import load_config
from mmdet.apis.config_options import parse_value

TEXT = (Path(__file__).resolve().parents[2] / 'docs/training.md').read_text().partition('## Options for accuracy')[2]
ROWS = [row.strip('| ').split(' | ') for row in re.findall(r'^\| (?!part|---).*$', TEXT, re.M)]
SWITCHES = [(key, value, row[2]) for row in ROWS for key, value in re.findall(r'`([\w.]+)=([^`]+)`', row[1])]


def value_of(cfg, key):
    return reduce(lambda node, part: None if node is None else node.get(part), key.split('.'), cfg)


@pytest.mark.parametrize(('key', 'value', 'published'), SWITCHES, ids=[key for key, *_ in SWITCHES])
def test_a_switch_sets_its_value_and_is_off_in_the_published_config(key, value, published):
    found = value_of(load_config('configs/memcnp_toy_organic_improved.py', [(key, value)]), key)
    assert str(found) == str(parse_value(value))
    before = value_of(load_config('configs/memcnp_toy_organic.py'), key)
    assert before is None or str(before).removesuffix('.0') in re.findall(r'[\w.]+', published)


def test_every_kind_of_option_is_there():
    assert len(ROWS) >= 18 and all(len(row) == 4 for row in ROWS) and len(SWITCHES) >= 14
