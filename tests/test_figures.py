"""The figures of docs/architecture.md are what their script draws."""
import runpy
from pathlib import Path

import pytest

FIGURES = Path(__file__).resolve().parents[1] / 'docs' / 'figures'


@pytest.mark.parametrize('name', ['network', 'data_flow'])
def test_the_figure_in_the_repository_is_the_one_that_the_script_draws(name: str) -> None:
    drawn = runpy.run_path(str(FIGURES / 'draw_figures.py'))[name]().svg()
    assert drawn == (FIGURES / f'{name}.svg').read_text()
