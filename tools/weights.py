#!/usr/bin/env python
"""Public weights by name: python tools/weights.py list | get NAME ... [--out DIR] | verify [NAME ...]."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, run_command
from mmdet.errors import EXIT_USER_ERROR, UserError
from mmdet.zoo import WEIGHTS, PublicWeights, find_weights, near_names


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/weights.py', description=(
        'Lists, downloads and verifies public weights. They are downloaded to $MEMCNP_HOME/checkpoints, if this '
        'variable is set, else to the folder of torch.hub; a file in data/weights takes precedence. For a machine '
        'without internet access, download the files on another one and copy them, or set MEMCNP_HOME to a folder that '
        'both can read.'))
    commands = parser.add_subparsers(dest='command', required=True, metavar='list|get|verify')
    commands.add_parser('list', prog='tools/weights.py list', help='print names, sizes, licences and local files')
    get = commands.add_parser('get', prog='tools/weights.py get', help='download files')
    get.add_argument('names', nargs='+', metavar='NAME', help='name from the list, https:// or hf:// address')
    get.add_argument('--out', type=Path, metavar='DIR', help='output folder (default: the cache)')
    verify = commands.add_parser('verify', prog='tools/weights.py verify', help='compare SHA-256 digests')
    verify.add_argument('names', nargs='*', metavar='NAME', help='names to verify (default: all downloaded files)')
    return parser


def find_all(names: Sequence[str]) -> list[PublicWeights]:
    """Return the entries of all names; raise UserError for an unknown name before anything is downloaded."""
    entries = []
    for name in names:
        entry = find_weights(name)
        if entry is None:
            raise UserError(f'{name}: no published weights have this name{near_names(name)}')
        entries.append(entry)
    return entries


def list_weights() -> None:
    """Print the size, licence, address, configs and local path of each file."""
    from mmdet.download import cache_folder, local_file
    print(f'Folder of downloads: {cache_folder()}')
    for entry in WEIGHTS.values():
        size = f'{entry.size:.0f} MiB' if entry.size else 'size unknown'
        hash_ = f'SHA-256 {entry.sha256}' if entry.sha256 else 'unverified'
        print(f'{entry.name:<32}{entry.part}, {size}, {hash_}; licence: {entry.licence}')
        print(f'    {entry.address}; {entry.layout}')
        if entry.configs:
            print(f'    configs: {" ".join(entry.configs)}')
        if path := local_file(entry):
            print(f'    is at {path}')


def get_weights(names: Sequence[str], out: Path | None) -> None:
    """Download each file and print where it is."""
    from mmdet.download import download, fetch
    for entry in find_all(names):
        print(download(entry, out.expanduser()) if out else fetch(entry), flush=True)


def verify_weights(names: Sequence[str]) -> int:
    """Print whether each file has the published digest; return the exit status."""
    from mmdet.download import local_file, sha256_of
    status = 0
    for entry in find_all(names) if names else WEIGHTS.values():
        path = local_file(entry)
        if path is None:
            if names:
                print(f'{entry.name}: not there; tools/weights.py get {entry.name}')
                status = EXIT_USER_ERROR
            continue
        digest = sha256_of(path)
        if not entry.sha256:
            print(f'{entry.name}: unverified, no digest is published; {path} has SHA-256 {digest}')
        elif digest.startswith(entry.sha256):
            print(f'{entry.name}: right, {path}')
        else:
            print(f'{entry.name}: WRONG, {path} has SHA-256 {digest}, expected {entry.sha256}; remove it and get it '
                  'again')
            status = EXIT_USER_ERROR
    return status


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    if args.command == 'list':
        list_weights()
    elif args.command == 'get':
        get_weights(args.names, args.out)
    else:
        return verify_weights(args.names)
    return 0


if __name__ == '__main__':
    run_command(main)
