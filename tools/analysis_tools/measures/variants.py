"""Variants of a model that ``compare.py`` trains and tests: their JSON list, commands, configs and data."""
from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdet.errors import UserError
from mmdet.files import load_json

if TYPE_CHECKING:
    from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = '[{"name": "small", "config": "configs/memcnp_toy.py", "cfg_options": ["train_dataloader.batch_size=2"]}]'


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: name on the command line and of the output folder.
        config: path of the config, relative to the root of the repository.
        title: title in the table; empty: the name.
        cfg_options: ``KEY=VALUE``, as for the flag ``--cfg_options``.
        weights_of: the variant whose checkpoint of the same seed is tested with this variant's settings; None: its own.
            In the file, the name of that variant.
    """

    name: str
    config: str
    title: str = ''
    cfg_options: tuple[str, ...] = ()
    weights_of: Variant | None = None

    @property
    def trained(self) -> Variant:
        """The variant whose training gives the weights."""
        return self.weights_of or self

    def train_command(self, folder: Path | str, seed: int | str, amp: bool) -> list[str]:
        """Return the arguments of the command that trains the variant in a folder, or resumes the training there."""
        return ['train.py', self.config, '--work_dir', str(folder), '--seed', str(seed), '--resume',
                *self._options(amp)]

    def test_command(self, folder: Path | str, checkpoint: str, amp: bool) -> list[str]:
        """Return the arguments of the command that writes ``result.pkl`` and ``result.pkl.json`` to a folder."""
        return ['test_video.py', self.config, checkpoint, '--work_dir', str(folder), '--out', f'{folder}/result.pkl',
                *self._options(amp)]

    def _options(self, amp: bool) -> list[str]:
        return ['--amp'] * amp + (['--cfg_options', *self.cfg_options] if self.cfg_options else [])


def read_variants(path: str, only: Sequence[str] | None) -> list[Variant]:
    """Read variants from a JSON file: objects with the attributes of :class:`Variant`, of which ``name`` and ``config``
    are required.

    Raises:
        UserError: the file is invalid, a config is missing, or ``only`` or ``weights_of`` contains an unknown name.
    """
    entries = load_json(path)
    if not isinstance(entries, list) or not entries:
        raise UserError(f'{path}: is not a list of variants, such as {EXAMPLE}')
    variants = [_variant(entry, f'{path}: variant {number}') for number, entry in enumerate(entries, start=1)]
    sources = {variant.name: variant for variant, entry in zip(variants, entries) if not entry.get('weights_of')}
    for number, entry in enumerate(entries):
        source = entry.get('weights_of')
        if source and source not in sources:
            raise UserError(f'{path}: variant {entry["name"]!r} has weights_of={source!r}; name a variant of this file '
                            f'that is trained: {", ".join(sources) or "there is none"}')
        variants[number] = replace(variants[number], weights_of=sources.get(source))
    for variant in variants:
        if not (ROOT / variant.config).is_file():
            raise UserError(f'{path}: variant {variant.name!r} names the config {variant.config}, which is not there')
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise UserError(f'{path}: two variants have the same name')
    unknown = set(only or names) - set(names)
    if unknown:
        raise UserError(f'--only {sorted(unknown)[0]}: {path} has {", ".join(names)}')
    return [variant for variant in variants if not only or variant.name in only]


def _variant(entry: Any, where: str) -> Variant:
    """Create a variant from its JSON object; raise UserError if it is invalid."""
    if not isinstance(entry, dict):
        raise UserError(f'{where}: {entry!r} is not an object, such as {EXAMPLE}')
    names = [field.name for field in fields(Variant)]
    for key in entry:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            raise UserError(f'{where}: has the unknown key {key!r}; '
                            + (f'did you mean {near[0]}?' if near else f'there are {", ".join(names)}'))
    for key in ('name', 'config', 'title', 'weights_of'):
        optional = key in ('title', 'weights_of')
        value = entry.get(key, '' if optional else None)
        if not isinstance(value, str) or not (value or optional):
            raise UserError(f'{where}: its {key} is {value!r}; give a string')
    if re.search(r'[/\\]|^\.+$', entry['name']):
        raise UserError(f'{where}: its name {entry["name"]!r} cannot be the name of a folder; remove the slashes')
    options = entry.get('cfg_options', [])
    if not isinstance(options, list) or not all(
            isinstance(option, str) and re.match('[^=]+=', option) for option in options):
        raise UserError(f'{where}: its cfg_options are {options!r}; give a list of "KEY=VALUE"')
    return Variant(**entry | dict(cfg_options=tuple(options), weights_of=None))


@cache
def load_variant(variant: Variant) -> Config:
    """Load the config of a variant with its options; raise UserError if that is not possible."""
    from mmdet.apis.config import load_config, require
    try:
        cfg = load_config(ROOT / variant.config, [tuple(option.partition('=')[::2]) for option in variant.cfg_options])
        require(cfg, 'train_dataloader', 'test_dataloader', 'test_evaluator')
    except UserError as error:
        raise UserError(f'variant {variant.name!r}: {error}') from None
    return cfg


def annotation_file(variant: Variant) -> str:
    """Find the annotation file that the variant's test is scored against; raise UserError if there is none."""
    from mmdet.datasets.layout import find_annotations
    return str(find_annotations(str(ROOT), load_variant(variant).test_evaluator.ann_file))


def check_data(variant: Variant) -> None:
    """Raise UserError unless all annotation files exist; for toy videos, the message names the command to make them."""
    from mmdet.datasets.layout import find_annotations
    cfg = load_variant(variant)
    try:
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            for dataset in _datasets(loader.dataset):
                find_annotations(str(ROOT / (dataset.get('data_root') or '')), dataset['ann_file'])
        annotation_file(variant)
    except UserError as error:
        # a config for toy videos contains the command that makes them in a comment
        text = re.sub(r'\\\n#\s*', '', cfg.text)  # continued lines are joined
        for command, folder in re.findall(r'# .*?(python tools/make_toy_vis\.py (\S+).*)', text):
            if f'{ROOT / folder}/' in str(error):
                missing = str(error).split(' does not exist')[0]
                raise UserError(f'variant {variant.name!r}: {missing} does not exist; first run {command}') from None
        raise UserError(f'variant {variant.name!r}: {error}') from None


def _datasets(node: dict) -> Iterator[dict]:
    """Yield the data sets with an annotation file, also those inside of wrappers."""
    if node.get('ann_file'):
        yield node
    for inner in [*node.get('datasets', ()), *filter(None, [node.get('dataset')])]:
        yield from _datasets(inner)
