"""`python -m cliper STAGE …`: every stage is a command of its own; no Snakemake needed."""

from __future__ import annotations

import argparse
import errno
import importlib
import signal
import sys
from pathlib import Path
from typing import Any

from cliper import __version__, config, log
from cliper.errors import CliperError, ConfigError
from cliper.stages import NAME_HELP, STAGES, Stage, documentation

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


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
        command.add_argument(
            "--config",
            nargs="+",
            type=Path,
            default=[Path("config.yaml")],
            metavar="FILE",
            help="YAML files; each is laid over the ones before it (default: config.yaml)",
        )
        for option in (*stage.names, *stage.options):
            kind = int if option in ("seed", "shard") else str
            is_required = option in stage.names and stage.preview is None
            command.add_argument(f"--{option}", required=is_required, type=kind, help=NAME_HELP[option])
        for flag in stage.flags:
            command.add_argument(f"--{flag.replace('_', '-')}", action="store_true", help=NAME_HELP[flag])
        if stage.preview is not None:
            command.add_argument("--preview", type=int, metavar="N", help="show N rows and write nothing")
    return parser


def chosen(options: argparse.Namespace, stage: Stage) -> tuple[str, str, dict[str, Any]]:
    """Module and function that the options ask for, and what it is told. Raises ConfigError if a name is missing."""
    names = {name: getattr(options, name) for name in (*stage.names, *stage.options, *stage.flags)}
    if stage.preview is not None and options.preview is not None:
        return stage.preview, "run", names | {"rows": options.preview}
    if missing := [f"--{name}" for name in stage.names if names[name] is None]:
        raise ConfigError(f"{options.stage} needs {', '.join(missing)}, or --preview N")
    return stage.module, stage.function, names


def main(arguments: list[str] | None = None) -> int:
    """Run one stage. Returns 0, 2 after a sentence about what the user can mend, or 130 after Ctrl-C."""
    options = build_parser().parse_args(arguments)
    stage = STAGES[options.stage]
    log.start(options.stage)
    try:
        module, function, names = chosen(options, stage)
        settings = config.load(options.config)
        settings.require({name: value for name, value in names.items() if value is not None})
        do_stage = getattr(importlib.import_module(module), function)
        signal.siginterrupt(signal.SIGINT, True)  # polars lets a wait for a thread go on after Ctrl-C
        do_stage(settings, **names)
    except CliperError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        sys.stderr.write(
            f"DataError: cannot write {error.filename or 'here'}: {error.strerror}; free the disk, run again\n"
        )
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{options.stage} was stopped\n")
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
