"""The command line that the commands with a --config share: config, overrides, help and refusals.

ml_collections reports a misspelt field as an AttributeError and a missing file as an OSError at its first use, and absl
does not list the fields of a config. Therefore this module checks the command line first, and reports each mistake in
one sentence. It does not import jax, so that help and refusals are instant.
"""

from __future__ import annotations

import difflib
import logging as standard_logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from absl.logging.converter import absl_to_standard
from ml_collections import config_dict, config_flags

from scarlet_jax.commands import boundary, cards, config_files, help
from scarlet_jax.errors import UserError, bad_field, first_line, shown
from scarlet_jax.options import fields as config_fields
from scarlet_jax.options.rules import RULES, may_be_open, method_rules, validate
from scarlet_jax.runtime import streams

_HELP = re.compile(r"--?(h|help|helpshort|helpfull)$")
_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)(?:=(?P<value>.*))?$", re.DOTALL)
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_OPEN = "open"  # the value of a field that is left to the method or the program

Main = Callable[[config_dict.ConfigDict, str, flags.FlagValues], Any]
DefineFlags = Callable[[flags.FlagValues], None]


def run(
    main: Main,
    define_flags: DefineFlags | None = None,
    *,
    command: str = "scarlet run",
    description: str = "",
    examples: Sequence[tuple[str, str]] = (),
    prints: bool = True,
) -> NoReturn:
    """Parse the command line and exit with main's code.

    Args:
      main: called with the locked config, the path it was named by, and the parsed flags; an int that it returns is the
        exit code, anything else is 0.
      define_flags: defines the command's own flags on the flag values it is given.
      command: how the command is called; shown by --help.
      description: one sentence for --help.
      examples: pairs of the command's arguments and what it does with them, for --help.
      prints: whether the command's result is what it prints.
    """

    def flags_parser(argv: Sequence[str]) -> tuple[config_dict.ConfigDict, str]:
        own_flags = _define(define_flags, flags.FLAGS)
        if wants_help(argv):
            path, rest = take_config(argv[1:])
            config = _with_method(path or str(cards.FOLDER / "base.py"), rest)
            base = (cards.FOLDER / "base.py").read_text()
            print(help.render(config, base, path, own_flags, command, description, examples))
            sys.exit(0)
        parsed = parse(argv, flags.FLAGS)
        _log_to_stderr(flags.FLAGS)
        return parsed

    def call(parsed: tuple[config_dict.ConfigDict, str]) -> int:
        code = main(*parsed, flags.FLAGS)
        return code if isinstance(code, int) else 0

    streams.protect()
    logging.get_absl_handler().python_handler.stream = sys.stderr  # as it is now
    sys.exit(boundary.guarded(lambda: app.run(call, flags_parser=flags_parser), prints=prints))


def parse(argv: Sequence[str], flag_values: flags.FlagValues) -> tuple[config_dict.ConfigDict, str]:
    """Parse argv (program name first) into `flag_values`.

    Returns:
      The locked config, overrides applied, and the path it was named by.

    Raises:
      UserError: the command line is wrong; one sentence says how.
    """
    try:
        argv = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    except flags.Error as error:
        raise UserError(first_line(error).removeprefix("ERROR:: ") + ".") from None
    path, rest = take_config(argv[1:])
    if path is None:
        raise UserError(f"No config: add --config=FILE; {cards.offered()}.")
    config = _with_method(path, rest)
    known = config_fields.types(config)
    for field, _ in overrides(rest):
        _check_field(field, known)

    rest, opened = _take_open(rest, config)
    argv = [argv[0], *rest]
    try:
        # Not DEFINE_config_file: the file is read once, and --config may stand behind its overrides.
        config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=argv, lock_config=True)
        unparsed = flag_values(argv)
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unknown_flag(error.flagname, flag_values, known)) from None
    except flags.IllegalFlagValueError as error:
        raise UserError(_wrong_type(error, rest, config, known)) from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The command line cannot be read: {first_line(error)}.") from None
    if unparsed[1:]:
        raise UserError(f"Unexpected argument {unparsed[1]!r}: fields are set as --config.FIELD=VALUE.")
    for name in flag_values:
        # Most often the value was a shell variable that is not set. The fields of the config have rules of their own.
        if not name.startswith("config") and flag_values[name].present and flag_values[name].value in ("", []):
            raise UserError(f"--{name} is empty: give it a value, or leave it out.")
    for field in opened:
        config_fields.set_open(flag_values.config, field)
    validate(flag_values.config)
    return flag_values.config, path


def wants_help(argv: Sequence[str]) -> bool:
    """Whether argv (program name first) asks for help."""
    return any(_HELP.match(arg) for arg in _before_dashes(argv[1:]))


def take_config(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of --config, a card's name replaced by its file (None if absent), and the other arguments."""
    path, rest = None, list(args)
    considered = iter(list(_before_dashes(args)))
    for arg in considered:
        name, equals, value = arg.partition("=")
        if name not in ("--config", "-config"):
            continue
        if path is not None:
            raise UserError(f"--config is given twice: {path} and {value if equals else 'another one'}.")
        rest.remove(arg)
        if not equals:
            value = next(considered, "")
            if value:
                rest.remove(value)
        if not value:
            raise UserError(f"--config needs a file; {cards.offered()}.")
        path = cards.find(value)
    return path, rest


def _with_method(path: str, args: Sequence[str]) -> config_dict.ConfigDict:
    """The config of a file with the method that the arguments choose, whose parameters are fields of the config."""
    chosen = [value for field, value in overrides(args) if field == "method.name" and value]
    config = config_files.load_config(path, chosen[-1] if chosen else None)
    if chosen and "method.name" in config_fields.leaves(config):
        with config.method.ignore_type():
            config.method.name = chosen[-1]
    name = config_fields.leaves(config).get("method.name")
    if name and isinstance(name, str):
        config_fields.add_method_parameters(config, name)
    return config


def _log_to_stderr(flag_values: flags.FlagValues) -> None:
    """Write this program's own messages as plain lines, without absl's prefix of level, time, thread and source line.

    --verbosity applies to them and to the libraries' messages. By default the libraries' are shown from warnings on,
    because Orbax would fill the screen.
    """
    own = standard_logging.getLogger("scarlet_jax")
    own.handlers, own.propagate = [standard_logging.StreamHandler()], False
    own.setLevel(absl_to_standard(flag_values.verbosity))
    if flag_values["verbosity"].using_default_value:
        own.setLevel(standard_logging.INFO)
        logging.set_verbosity(logging.WARNING)
        standard_logging.getLogger("matplotlib.font_manager").setLevel(
            standard_logging.ERROR
        )  # "building the font cache"


def _define(define_flags: DefineFlags | None, flag_values: flags.FlagValues) -> list[flags.Flag]:
    """Define the command's own flags and return them."""
    before = set(flag_values)
    if define_flags is not None:
        define_flags(flag_values)
    return [flag_values[name] for name in flag_values if name not in before]


def _before_dashes(args: Sequence[str]) -> Iterator[str]:
    """The arguments before a bare `--`, after which nothing is a flag."""
    for arg in args:
        if arg == "--":
            return
        yield arg


def overrides(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Field and value of every --config.FIELD=VALUE, or --config.FIELD VALUE."""
    args = list(_before_dashes(args))
    for arg, following in zip(args, [*args, None][1:], strict=True):
        match = _OVERRIDE.match(arg)
        if match:
            yield match["field"], following if match["value"] is None else match["value"]


def _check_field(field: str, fields: dict[str, type]) -> None:
    """Refuse a field that the config does not have."""
    if field in fields:
        return
    members = [name for name in fields if name.startswith(f"{field}.")]
    if members:
        raise UserError(f"config.{field} is a group: set one of its fields, {', '.join(members)}.")
    nearest = config_fields.nearest(field, list(fields))
    hint = f" (did you mean config.{nearest}?)" if nearest else "; --help lists all fields"
    raise UserError(f"The config has no field {shown(field)}{hint}.")


def _unknown_flag(name: str, flag_values: flags.FlagValues, fields: dict[str, type]) -> str:
    """The sentence for a flag that is not defined."""
    if name in fields:
        return f"There is no flag --{name}: fields of the config are set as --config.{name}=VALUE."
    close = difflib.get_close_matches(name, [*flag_values, *(f"config.{field}" for field in fields)], n=1)
    nearest = config_fields.nearest(name, list(fields))
    if not close and nearest:
        close = [f"config.{nearest}"]
    hint = f" (did you mean --{close[0]}?)" if close else "; --help lists what there is"
    return f"There is no flag --{name}{hint}."


def _wrong_type(
    error: flags.Error, args: Sequence[str], config: config_dict.ConfigDict, fields: dict[str, type]
) -> str:
    """The sentence for a value that its flag does not take."""
    rules = RULES | method_rules(config.method.name)
    for field, value in overrides(args):
        if str(error).startswith(f"flag --config.{field}={value}:"):
            expected = _TYPE_NAMES.get(fields[field], f"a {fields[field].__name__}")
            allowed = rules[field].words() if field in rules else expected
            return str(bad_field(field, value, allowed))
    return f"A flag has a value that it does not take: {first_line(error)}."


def _take_open(args: Sequence[str], config: config_dict.ConfigDict) -> tuple[list[str], set[str]]:
    """The arguments without every --config.FIELD=open of a field that may be open, and the fields left open by them.

    As everywhere on a command line, the last value of a field counts.
    """
    rest, opened, known = list(_before_dashes(args)), set[str](), config_fields.leaves(config)
    behind = list(args[len(rest) :])
    at = 0
    while at < len(rest):
        match = _OVERRIDE.match(rest[at])
        field = match["field"] if match else ""
        if field not in known or not (known[field] is None or may_be_open(field)):
            at += 1
            continue
        assert match is not None
        apart = match["value"] is None
        value = (rest[at + 1] if at + 1 < len(rest) else None) if apart else match["value"]
        if value is not None and value.lower() == _OPEN:
            opened.add(field)
            del rest[at : at + 1 + apart]
        else:
            opened.discard(field)
            at += 1
    return [*rest, *behind], opened
