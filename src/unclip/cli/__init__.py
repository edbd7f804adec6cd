"""The command line: one file a group of verbs, put together here.

Results go to stdout; progress, warnings and errors to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 refused by policy, 130 interrupted. The files of the verbs import torch and the models inside their
functions only, so that `unclip --help` answers at once.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TextIO

import typer

from unclip import __version__
from unclip.cli import (
    bench,
    captions,
    classify,
    data,
    edit,
    evaluate,
    fit,
    generate,
    info,
    models,
    outpaint,
    plan,
    provenance,
    reconstruct,
    search,
    serve,
    train,
)
from unclip.cli.streams import steady
from unclip.errors import UnclipError, UnclipWarning, escaped, is_out_of_memory

LONGEST_LINE = 4000  # characters of one message: a name in a file may have any length
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
READ_TEXTS = ("generate", "edit", "outpaint", "caption-complete", "search")  # as their arguments

app = typer.Typer(
    name="unclip",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass
class _Run:
    debug: bool = False


_run = _Run()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unclip {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def unclip(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="UNCLIP_DEBUG", help="Show the whole traceback of an error.")
    ] = False,
) -> None:
    """Draw pictures from text, and train the models that do."""
    _run.debug = debug
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.add_typer(generate.app)
app.add_typer(info.app)
app.add_typer(edit.app)
app.add_typer(outpaint.app)
app.add_typer(reconstruct.app)
app.add_typer(captions.app)
app.add_typer(train.app)
app.add_typer(fit.app)
app.add_typer(plan.app)
app.add_typer(data.app, name="data")
app.add_typer(models.app)
app.add_typer(bench.app)
app.add_typer(classify.app)
app.add_typer(search.app)
app.add_typer(serve.app)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(provenance.app)
app.add_typer(provenance.keys, name="provenance")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line with `arguments` (by default the process's) and returns the exit code."""
    _run.debug = False
    with steady() as results:
        code = _main(arguments)
        if results.lost is not None and code == 0:
            _say(f"error: cannot write to stdout: {(results.lost.strerror or '').lower()}")
            return FAILED
    return code


def _main(arguments: Sequence[str] | None) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("always", UnclipWarning)
        warnings.showwarning = _show_warning
        try:
            typed = shlex.join(["unclip", *(sys.argv[1:] if arguments is None else arguments)])
            code = app(args=arguments, prog_name="unclip", standalone_mode=False, obj=typed)
            _warn_of_swallowed_text(arguments)
            sys.stdout.flush()  # a reader that has gone away shows here, not while Python shuts down
            if code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt
                raise KeyboardInterrupt
        except (KeyboardInterrupt, typer.Abort):
            _say("interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            # https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if _run.debug:
                traceback.print_exc()
            if (
                type(error).__name__ == "NoArgsIsHelpError"
            ):  # no verb after `unclip data`; typer hides the class
                print(error, file=sys.stderr)
            else:
                _say(f"error: {_explain(error)}{_hint_of_dashes(error, arguments)}")
            return getattr(error, "exit_code", FAILED)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> str:
    if isinstance(error, UnclipError):
        return str(error)
    if isinstance(error, typer.TyperException):  # wrong usage
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return error.format_message().rstrip(".") + hint
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if is_out_of_memory(error):
        return "out of memory: draw fewer pictures at once, or smaller ones"
    return f"{type(error).__name__}: {error} (this is a bug in unclip; --debug shows where)"


def _hint_of_dashes(error: Exception, arguments: Sequence[str] | None) -> str:
    """A hint for a text that begins with a dash and was read as an option; else nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((word for word in given if not word.startswith("-")), "")
    if getattr(error, "exit_code", FAILED) != WRONG_USAGE or verb not in READ_TEXTS:
        return ""
    options = given[: given.index("--")] if "--" in given else given
    unknown = getattr(error, "option_name", None) or " "  # one of a single dash is given as its first letter
    for word in options:
        read_as_option = word.startswith(unknown) and not unknown.startswith("--")
        if word.startswith("-") and (" " in word or read_as_option):
            return f"; a text that begins with a dash stands behind --: unclip {verb} -- {shlex.quote(word)}"
    return ""


def _warn_of_swallowed_text(arguments: Sequence[str] | None) -> None:
    """Warn of a text that begins with "-o" and was taken for a file's name: `-old car` is --out "ld car"."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    for word in options if given and given[0] in READ_TEXTS else []:
        if re.fullmatch(r"-o[^/\\{.=]* [^/\\{.]*", word):
            read = f"{word!r} was read as --out {word[2:]!r}"
            _say(f"warning: {read}: a text that begins with a dash stands behind --")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as one line; those of libraries are for developers."""
    if issubclass(category, UnclipWarning):
        _say(f"warning: {message}")
    elif _run.debug:
        _say(warnings.formatwarning(message, category, filename, lineno, line))


def _say(text: str) -> None:
    line = escaped(" ".join(text.split()))
    print("unclip:", line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}...", file=sys.stderr)
