"""Files of measurements, and the comparison of two of them. Called by tools/analysis_tools/benchmark.py."""
from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

from mmdet.errors import UserError
from mmdet.files import atomic_open

# keys of a row that are measured; all others are its settings
NUMBERS = ('median_ms', 'q1_ms', 'q3_ms', 'min_ms', 'max_ms', 'per_second', 'allocated_gib', 'reserved_gib', 'bytes',
           'operations', 'floor_ms', 'repeats', 'detections_a_frame')


class Change(NamedTuple):
    """How the time of a row changed.

    Attributes:
        what, setting: the row.
        old, new: medians in milliseconds.
        ratio: new / old.
        low, high: the smallest and the largest ratio of two times within the spreads of both, their quartiles.
    """

    what: str
    setting: str
    old: float
    new: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``'slower'`` or ``'faster'`` if the medians differ by more than the spreads, else empty."""
        return 'slower' if self.low > 1 else 'faster' if self.high < 1 else ''


def name_of(row: dict) -> str:
    """Return what a row measures, below the name of its path if it has one."""
    return f'{row["path"]}: {row["what"]}' if 'path' in row else row['what']


def setting_of(row: dict) -> str:
    """Return the settings of a row as text: ``frames 8, precision amp``."""
    return ', '.join(f'{key} {value}' for key, value in row.items() if key not in ('path', 'what', *NUMBERS))


def write_record(path: str | PathLike, record: dict) -> None:
    """Write a record: ``machine``, ``versions``, ``commit``, ``hardware`` (a line) and ``rows``, as JSON."""
    with atomic_open(path, 'w') as file:
        json.dump(record, file, indent=1)


def read_record(path: str | PathLike) -> dict:
    """Read a file of ``benchmark.py --out``. Raises UserError if it is something else."""
    try:
        with open(path, encoding='utf-8') as file:
            record = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read as JSON ({error}); give a file of benchmark.py --out') from None
    rows = record.get('rows') if isinstance(record, dict) else None
    if not isinstance(rows, list) or not isinstance(record.get('machine'), dict) or not all(
            isinstance(row, dict) and {'what', 'median_ms', 'q1_ms', 'q3_ms'} <= row.keys() for row in rows):
        raise UserError(f'{path} has no machine or no rows with quartiles; measure it again with benchmark.py --out')
    return record


def read_records(paths: Sequence[str | PathLike], any_hardware: bool = False) -> dict:
    """Read files of ``benchmark.py --out`` as one record, with the rows of all of them.

    Raises:
        UserError: a file is something else or, without ``any_hardware``, was measured on other hardware.
    """
    record, *others = map(read_record, paths)
    for other, path in zip(others, paths[1:]):
        if not any_hardware:
            check_same_machine(record, other, path)
        record['rows'] += other['rows']
    return record


def check_same_machine(new: dict, old: dict, old_path: str | PathLike) -> None:
    """Raise UserError unless both records come from equal hardware. Older records do not have the number of cores."""
    there, here = old['machine'], new['machine']
    keys = ('gpu', 'cpu', 'threads', *(['cores'] if 'cores' in there and 'cores' in here else []))
    different = [f'{key} {there.get(key)} there, {here.get(key)} here' for key in keys
                 if there.get(key) != here.get(key)]
    if different:
        raise UserError(f'{old_path} was measured on other hardware: {"; ".join(different)}; measure both on one '
                        'machine, or compare anyway with --any_hardware')


def changes(new: Sequence[dict], old: Sequence[dict]) -> list[Change]:
    """Return the changes of the rows that both have, in the order of ``new``."""
    before = {_key(row): row for row in old}
    found = []
    for row in new:
        other = before.get(_key(row))
        if other is not None:
            found.append(Change(name_of(row), setting_of(row), other['median_ms'], row['median_ms'],
                                row['median_ms'] / other['median_ms'], row['q1_ms'] / other['q3_ms'],
                                row['q3_ms'] / other['q1_ms']))
    return found


def comparison_table(new: dict, old: dict) -> str:
    """Return the changes of two records as a Markdown table, and below it what only one of them has."""
    lines = [f'old: {_origin(old)}', f'new: {_origin(new)}', '',
             '| what | setting | old ms | new ms | new / old | within the spread | |', '|---|---|---|---|---|---|---|']
    for change in changes(new['rows'], old['rows']):
        lines.append(f'| {change.what} | {change.setting} | {change.old:.3f} | {change.new:.3f} | {change.ratio:.3f} | '
                     f'{change.low:.3f}–{change.high:.3f} | {change.verdict} |')
    keys = [{_key(row): row for row in record['rows']} for record in (old, new)]
    for mine, other, name in ((*keys, 'old'), (*keys[::-1], 'new')):
        lines += [f'only {name}: {name_of(row)}, {setting_of(row)}' for key, row in mine.items() if key not in other]
    return '\n'.join(lines)


def _key(row: dict) -> str:
    return json.dumps({key: value for key, value in row.items() if key not in NUMBERS}, sort_keys=True)


def _origin(record: dict) -> str:
    return f'commit {record.get("commit") or "unknown"}, {record.get("hardware")}'
