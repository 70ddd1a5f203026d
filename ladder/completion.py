"""Scripts by which bash, zsh and fish complete the command `ladder`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from ladder.usage import options

CONFIGS = ("run", "plan", "tokenise", "train", "entropy", "coordinates")
"""Verbs whose first argument is a config, which may be a shipped one."""

BASH = """_ladder() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$current"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
    case ${{COMP_WORDS[1]}} in
      {config_verbs}) COMPREPLY+=($(compgen -W "{configs}" -- "$current")) ;;
    esac
  fi
}}
complete -o filenames -F _ladder ladder
"""


def script(
    shell: str, commands: Mapping[str, Callable[..., None]], configs: tuple[str, ...]
) -> str:
    """The completion script of a shell: bash, zsh or fish."""
    own = {verb: _options(command) for verb, command in commands.items()}
    if shell == "fish":
        return _fish(commands, own, configs)
    cases = "\n".join(f'    {verb}) words="{" ".join(words)}" ;;' for verb, words in own.items())
    text = BASH.format(
        verbs=" ".join(own),
        cases=cases,
        config_verbs="|".join(CONFIGS),
        configs=" ".join(configs),
    )
    return text if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{text}"


def _fish(
    commands: Mapping[str, Callable[..., None]],
    own: Mapping[str, list[str]],
    configs: tuple[str, ...],
) -> str:
    lines = []
    for verb, command in commands.items():
        about = (inspect.getdoc(command) or "").splitlines()[0].replace("'", "")
        lines.append(f"complete -c ladder -f -n __fish_use_subcommand -a {verb} -d '{about}'")
        seen = f"-n '__fish_seen_subcommand_from {verb}'"
        lines += [
            f"complete -c ladder {seen} -l {option.removeprefix('--')}" for option in own[verb]
        ]
        if verb in CONFIGS:
            lines.append(f"complete -c ladder {seen} -a '{' '.join(configs)}'")
    return "\n".join(lines) + "\n"


def _options(command: Callable[..., None]) -> list[str]:
    """The long options of a verb."""
    named = [option.name for option in options(command) if not option.positional]
    return sorted([*named, "--help"])
