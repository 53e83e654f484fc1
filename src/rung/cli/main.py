"""From arguments to an exit code; errors become one line."""

import shlex
import sys
from collections.abc import Sequence

from rung.extras import require

FINISHED = 0
MISSING_EXTRA = 1
USER_ERROR = 2
DIVERGED = 3
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``rung`` with arguments.

    Args:
        arguments: Without the program's name; default: those of the process.

    Returns:
        The exit code: 0 done, 1 an extra is missing, 2 wrong input, 3 training diverged,
        130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["rung", *arguments])
    try:
        typer = require("typer")
        from rung.cli.app import app

        # typer has a click of its own in some versions; its public errors lead to the base class.
        usage_error = typer.BadParameter.__base__
        try:
            code = app(args=arguments, prog_name="rung", standalone_mode=False, obj=command)
        except usage_error as error:
            return _complain(error.format_message(), USER_ERROR)
        except typer.Abort:
            code = INTERRUPTED
        # Ctrl-C is an Abort or this exit code, as typer's version has it.
        if code == INTERRUPTED:
            return _interrupted(command)
    except KeyboardInterrupt:
        return _interrupted(command)
    except ImportError as error:
        return _complain(str(error), MISSING_EXTRA)
    except (ValueError, OSError) as error:
        return _complain(str(error), USER_ERROR)
    return code if isinstance(code, int) else FINISHED


def _complain(text: str, code: int) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


def _interrupted(command: str) -> int:
    words = shlex.split(command)
    if len(words) > 1 and words[1] in ("train", "sweep", "reproduce"):
        # Grids go on by themselves.
        done = words[1] != "train" or "--resume" in words
        again = command if done else f"{command} --resume"
        print(f"interrupted; go on with: {again}", file=sys.stderr)
    else:
        print("interrupted", file=sys.stderr)
    return INTERRUPTED
