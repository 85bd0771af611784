"""`python -m cliper STAGE …`: every stage is a command of its own; no Snakemake needed."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cliper import __version__, config, kernels, log
from cliper.config import Config
from cliper.config.decides import BUILDERS
from cliper.errors import CliperError, ConfigError
from cliper.layout import At, Layout
from cliper.settings import LARGEST, shown
from cliper.stages import FLAGS, LISTS, NAME_HELP, NUMBERS, STAGES, WORDS, documentation, find, spelled

CONFIGS = [Path("config.yaml")]  # unless others are named
DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


def whole_number(text: str) -> int:
    """A whole number of the command line that a seed may have. Raises argparse's error with a sentence."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)) and int(text) <= LARGEST):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no whole number from 0 to {LARGEST}")
    return int(text)


def form(option: str) -> dict[str, Any]:
    """How an option's value is written, for argparse."""
    if option in NUMBERS:
        return {"type": whole_number}
    if option in WORDS:
        return {"metavar": spelled(option)}
    if option in LISTS:
        return {"nargs": "+", "action": "extend", "metavar": "KEY=VALUE"}
    return {"action": "store_true"} if option in FLAGS else {}


def build_parser() -> argparse.ArgumentParser:
    """The command line, made from `STAGES`; no stage is imported for it."""
    parser = argparse.ArgumentParser(
        prog="python -m cliper",
        description="CLIPER from raw data to the paper's tables. The stages, in the order of the line:",
    )
    parser.add_argument("--version", action="version", version=f"cliper {__version__}")
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, stage in STAGES.items():
        command = commands.add_parser(
            name,
            help=stage.help,
            description=documentation(stage),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if stage.file is not None:
            command.add_argument("file", metavar="FILE", help=stage.file)
            continue
        command.add_argument(
            "--config",
            nargs="+",
            type=Path,
            default=CONFIGS,
            metavar="FILE",
            help="YAML files; each is laid over the ones before it (default: config.yaml)",
        )
        for option in (*stage.names, *stage.options):
            command.add_argument(option if option in WORDS else spelled(option), help=NAME_HELP[option], **form(option))
        if stage.has_places:
            command.add_argument("--place", metavar="FOLDER", help="the job's folder, instead of its names")
        if stage.preview is not None:
            command.add_argument("--preview", type=whole_number, metavar="N", help="show N rows and write nothing")
    return parser


def perform(config: Config, stage: str, **names: Any) -> None:
    """Run a job of a stage, or a tool. Raises CliperError with a sentence about what the user can do."""
    log.begin()
    row = find(stage)
    given = {name: value for name, value in names.items() if value is not None}
    layout = Layout(config)
    do = getattr(import_module(row.module), row.function)
    if row.folder is None:
        do(layout, **{name: names.get(name) for name in (*row.names, *row.options)})
        return
    value = BUILDERS[stage](config, **{name: given[name] for name in row.names})
    at = At(layout, {name: given[name] for name in (*row.names, *row.options) if name in given})
    do(value, at)


def preview(config: Config, stage: str, rows: int, **names: Any) -> None:
    """Show what a stage would write."""
    module = find(stage).preview
    assert module is not None
    import_module(module).run(Layout(config), rows=rows, **names)


def do_job(options: argparse.Namespace, *, owns_process: bool) -> int:
    """Do what the command line asks for. Returns the exit code. Raises ConfigError if a name is missing."""
    stage = STAGES[options.stage]
    if stage.file is not None:
        log.begin()
        return int(getattr(import_module(stage.module), stage.function)(options.file))
    names = {name: getattr(options, name) for name in stage.names}
    more = {name: getattr(options, name) for name in stage.options}
    settings = config.load(options.config)
    if more.get("set"):
        more["set"] = config.load(options.config, more["set"])
    if owns_process:
        kernels.pin(settings.kernels)
    if stage.preview is not None and options.preview is not None:
        preview(settings, options.stage, options.preview, **names)
        return 0
    if stage.has_places and options.place is not None:
        names |= Layout(settings).names_of(options.stage, options.place, names)
    if missing := [spelled(name) for name in stage.names if names[name] is None]:
        raise ConfigError(f"{options.stage} needs {', '.join(missing)}" + (", or --preview N" if stage.preview else ""))
    perform(settings, options.stage, **names, **more)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one stage. Returns 0, 1 if `lint` finds a fault, 2 after a sentence on what to do, or 130 after Ctrl-C."""
    options = build_parser().parse_args(arguments)
    log.start(options.stage)
    log.read_from(getattr(options, "config", CONFIGS), default=CONFIGS)
    signal.siginterrupt(signal.SIGINT, True)  # otherwise polars waits for its threads even after Ctrl-C
    try:
        return do_job(options, owns_process=arguments is None)
    except CliperError as error:
        log.fail(f"{type(error).__name__}: {error}")
        return 2
    except BrokenPipeError:  # the reader of standard output, such as `head`, has seen enough
        log.stop_showing()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        path = error.filename2 or error.filename or "here"  # of a copy, the first is its source
        log.fail(f"DataError: cannot write {path}: {error.strerror}; free the disk, run again")
        return 2
    except KeyboardInterrupt:
        log.fail(f"{options.stage} was stopped")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    code = main()
    if code == 128 + signal.SIGINT:
        os._exit(code)  # a thread may still look up a host's name or decode an image: the interpreter would wait for it
    sys.exit(code)
