"""env_pip.txt and env_conda.yml give the same versions, each of them exact."""
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def pins() -> list[str]:
    lines = (ROOT / 'env_pip.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def test_every_package_is_pinned_once():
    assert all(re.fullmatch(r'[A-Za-z0-9._-]+==[A-Za-z0-9.]+(; python_version >= "3\.\d+")?', pin) for pin in pins())
    names = [re.sub(r'[-_.]+', '-', pin.split('==')[0]).lower() for pin in pins()]
    assert len(set(names)) == len(names)


def test_conda_installs_the_same_packages_into_memcnp():
    conda = yaml.safe_load((ROOT / 'env_conda.yml').read_text())
    assert conda['name'] == 'memcnp'
    assert conda['dependencies'][-1]['pip'] == pins()
