package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// completeVariable is set by the completion scripts. Without it, the word that
// asks for completions is an argument like any other: it may be one of the
// program that exec runs.
const completeVariable = "RUNCH_COMPLETE"

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:        "completion",
		Usage:       "print a shell's completion script",
		ArgsUsage:   "bash|zsh",
		Description: "The completion command prints a script that completes commands and flags. To use it: source <(runch completion bash)",
		Action: func(c *cli.Context) error {
			if err := exactArgs(c, 1); err != nil {
				return err
			}
			var script string
			switch shell := c.Args().First(); shell {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			default:
				return fmt.Errorf("no completion for %q: there is one for bash and one for zsh", shell)
			}
			_, err := fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}

const bashCompletion = `# bash completion for runch

_runch() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}") list
	[[ $cur != -* ]] || words+=("$cur")
	list=$(RUNCH_COMPLETE=1 "${words[@]}" --generate-bash-completion 2>/dev/null)
	mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur")
}

complete -o bashdefault -o default -F _runch runch
`

const zshCompletion = `#compdef runch

_runch() {
	local cur=${words[CURRENT]}
	local -a asked=("${(@)words[1,CURRENT-1]}") list
	[[ $cur == -* ]] && asked+=("$cur")
	list=("${(@f)$(RUNCH_COMPLETE=1 "${asked[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${list[1]} ]]; then
		_describe 'runch' list
	else
		_files
	fi
}

compdef _runch runch
`
