"""Shared by all command lines: flags in both spellings, boolean flags, one-line errors.

Used by train.py, test_video.py and the tools. Imports no slow packages, so that wrong flags are reported at once.
"""
from __future__ import annotations

import argparse
import difflib
import os
import re
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mmdet.errors import EXIT_USER_ERROR, UserError
from mmdet.files import check_writable
from mmdet.shipped import find_config, find_shipped
from mmdet.zoo import find_weights

Key = TypeVar('Key')
Value = TypeVar('Value')
_ECHO = re.compile(r'(?i)\bnccl|gloo|\bpeer\b')  # in the errors of a process after another process has failed
CONSOLE_COMMANDS = ('memcnp-train', 'memcnp-test', 'memcnp-video', 'memcnp-eval')
_OUTPUTS = {'out': '--out', 'target': 'target'}  # arguments that name the file to be written
_TRUE, _FALSE = ('true', 'yes', '1', 'on'), ('false', 'no', '0', 'off')


class CommandParser(argparse.ArgumentParser):
    """``ArgumentParser`` that accepts ``--like_this`` and ``--like-this``; errors are one line on stderr, status 2."""

    def __init__(self, **kwargs: Any) -> None:
        command = Path(sys.argv[0]).name
        if command in CONSOLE_COMMANDS:  # of an installed package, which runs the same script
            kwargs['prog'] = command
        super().__init__(allow_abbrev=False, **kwargs)
        self._booleans: list[str] = []
        self._words: list[str] = []

    def add_argument(self, *names: str, **kwargs: Any) -> argparse.Action:
        spellings = [name.replace('_', '-') for name in names if name.startswith('--') and '_' in name]
        return super().add_argument(*names, *spellings, **kwargs)

    def add_boolean(self, name: str, help: str) -> None:
        """Add a flag that is given alone or with True or False."""
        self._booleans += [name, name.replace('_', '-')]
        self.add_argument(name, type=_boolean, nargs='?', const=True, default=False, metavar='True|False', help=help)

    def add_config_options(self) -> None:
        self.add_argument('--cfg_options', nargs='+', type=_key_value, action='extend', default=[], metavar='KEY=VALUE',
                          help='change values of the config, for example train_cfg.max_epochs=3')

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        # a boolean flag without a value must not consume the next argument
        for index, argument in enumerate(arguments):
            following = arguments[index + 1].lower() if index + 1 < len(arguments) else ''
            if argument in self._booleans and following not in _TRUE + _FALSE:
                arguments[index] = f'{argument}=True'
        self._words = arguments
        parsed, others = super().parse_known_args(arguments, namespace)
        self._protect_inputs(parsed)
        return parsed, others

    def _protect_inputs(self, parsed: argparse.Namespace) -> None:
        """Report an error if the output file is one of the files to be read, which would be lost."""
        for name, shown in _OUTPUTS.items():
            output = getattr(parsed, name, None)
            if not output or not Path(output).expanduser().is_file():
                continue
            for action in self._actions:
                values = getattr(parsed, action.dest, None)
                for value in values if isinstance(values, list) else [values]:
                    if action.type in _INPUTS and value and os.path.exists(value) \
                            and os.path.samefile(value, Path(output).expanduser()):
                        given = action.option_strings[0] if action.option_strings else action.dest
                        self.error(f'{shown} {output}: would overwrite the file that is read as {given}; choose '
                                   'another output file')

    def error(self, message: str) -> NoReturn:
        flag = re.match(r'unrecognized arguments: .*?(--[^\s=]+)', message)
        near = difflib.get_close_matches(flag[1], self._option_string_actions, n=1) if flag else []
        remedy = f'; did you mean {near[0]}?' if near else ''
        if re.search(r'required: .*\bconfig\b', message):
            taken = [flag for flag, word in pairwise(self._words) if flag.startswith('--') and word.endswith('.py')]
            remedy = f'; give the config before {taken[0]}' if taken else ''
        self.exit(EXIT_USER_ERROR, f'error: {message}{remedy} ({self.prog} --help lists the flags)\n')


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise argparse.ArgumentTypeError(f'expected True or False, got {text!r}')
    return text.lower() in _TRUE


def _key_value(text: str) -> tuple[str, str]:
    key, separator, value = text.partition('=')
    if not separator or not key:
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE, got {text!r}')
    return key, value


def existing_file(text: str) -> str:
    """Argument type: an existing file (``~`` is expanded), or a shipped one by its path in the project."""
    return _existing(text, find_shipped(text))


def config_file(text: str) -> str:
    """Argument type: an existing config file, or the name of a shipped config."""
    return _existing(text, find_config(text))


def _existing(text: str, path: Path) -> str:
    if not path.is_file():
        near = [str(candidate) for candidate in sorted(path.parent.glob(f'*{path.suffix}'))[:5]] if path.suffix else []
        raise argparse.ArgumentTypeError(f'no such file: {text}' + (f'; there are {", ".join(near)}' if near else ''))
    return str(path)


def output_file(text: str) -> str:
    """Argument type: a file that can be written (``~`` is expanded), so that no work is lost at the end."""
    path = Path(text).expanduser()
    try:
        check_writable(path, 'out')
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix('out: ')) from error
    return str(path)


def unique_mapping(flag: str, pairs: Sequence[tuple[Key, Value]]) -> dict[Key, Value]:
    """Return the KEY=VALUE pairs of a flag as a mapping; raise UserError if a key is given twice."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f'{flag}: {doubled} is given twice; give it one value')
    return mapping


def checkpoint_source(text: str) -> str:
    """Argument type: an existing file, an address, or the name of published weights."""
    return text if find_weights(text) else existing_file(text)


_INPUTS = (existing_file, config_file, checkpoint_source)


def positive_int(text: str) -> int:
    """Argument type: an integer of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def add_launch_arguments(parser: CommandParser) -> None:
    """Add ``--gpus``, ``--launcher``, and ``--local_rank``, which old launchers pass."""
    parser.add_argument('--gpus', type=int, metavar='N',
                        help='number of GPUs, with one process each; 0: use the CPU (default: a GPU if there is one)')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none',
                        help='launcher that started the processes (see tools/dist_train.sh and slurm_train.sh)')
    parser.add_argument('--local_rank', type=int, help=argparse.SUPPRESS)


def one_line(error: UserError) -> str:
    """Return the error's text in one line; errors of a data loader's worker contain it below a traceback."""
    text = str(error).strip()
    if 'Traceback (most recent call last)' in text:
        text = text.splitlines()[-1].removeprefix('mmdet.errors.UserError: ')
    return re.sub(r'\s+', ' ', text, flags=re.ASCII)  # file names may contain other spaces, such as U+202F


def run_command(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Exit with the status of ``main``; print a UserError as ``error: …`` on stderr and exit with status 2.

    One of several processes exits immediately when it fails: a regular shutdown would wait for the others.
    """
    in_job = os.environ.get('WORLD_SIZE', '1') != '1'
    try:
        sys.exit(main(None))
    except UserError as error:
        if os.environ.get('RANK', '0') != '0':
            time.sleep(3)  # an error common to all processes is reported by rank 0, whose exit ends this one
        status = EXIT_USER_ERROR
        sys.stdout.flush()
        print(f'error: {one_line(error)}', file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        status = 130
        print('interrupted', file=sys.stderr, flush=True)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at shutdown
            sys.exit(128 + signal.SIGPIPE)
        if not in_job:
            raise
        if _ECHO.search(str(error)):
            # another process has failed; wait for the launcher, so that no traceback hides that process's message
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(5)
        status = 1
        traceback.print_exc()
    if in_job:
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _nobody_reads() -> bool:
    """Return whether the reader of stdout has exited, such as ``head``."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in output.poll(0))
