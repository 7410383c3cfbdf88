package commands

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeVariable is set by the completion scripts. Without it, the word that asks
// for completions is an ordinary argument: the program that exec runs may have such
// a flag.
const completeVariable = "RUNCH_COMPLETE"

// completing tells whether a completion script asks for completions.
func completing(args []string) bool {
	return os.Getenv(completeVariable) != "" && args[len(args)-1] == "--"+cli.BashCompletionFlag.Names()[0]
}

// completable changes args so that the flag package can complete the last word. If that
// word is "--", a flag that is being typed, it becomes "-": the package would take "--"
// for the end of the flags. ok is false after a "--" that does end the flags: the package
// would run the command instead of completing its arguments.
func completable(args []string) (question []string, ok bool) {
	question = slices.Clone(args)
	if last := len(question) - 2; question[last] == "--" {
		question[last] = "-"
	}
	return question, !slices.Contains(question, "--")
}

// completesID makes a command complete containers' ids as well as its flags. It prints all
// ids: the scripts pass the typed word only if it is a flag, and the shell selects the ids
// that begin with that word.
func (p *program) completesID(c *cli.Command) *cli.Command {
	c.BashComplete = func(ctx *cli.Context) {
		last := os.Args[max(0, len(os.Args)-2)]
		if flag, ok := flagName(last); ok && !strings.Contains(last, "=") {
			if f := findFlag(c.Flags, flag); f != nil && takesValue(f) {
				return // the next word is its value
			}
		}
		cli.DefaultCompleteWithFlags(c)(ctx)
		if ctx.NArg() > 0 {
			return
		}
		ids, err := p.runtime(ctx).Store.IDs()
		if err != nil {
			return // there are none, or none that this user may see
		}
		for _, id := range ids {
			_, _ = fmt.Fprintln(ctx.App.Writer, id)
		}
	}
	return c
}

func completionCommand() *cli.Command {
	scripts := map[string]string{"bash": bashCompletion, "fish": fishCompletion, "zsh": zshCompletion}
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a shell's completion script",
		ArgsUsage: "bash|fish|zsh",
		Description: "The completion command prints a script that completes commands, flags and containers' ids. To use it in bash or\n" +
			"zsh: source <(runch completion bash)",
		BashComplete: func(c *cli.Context) {
			for _, shell := range slices.Sorted(maps.Keys(scripts)) {
				_, _ = fmt.Fprintln(c.App.Writer, shell)
			}
		},
		Action: func(c *cli.Context) error {
			if err := exactArgs(c, 1); err != nil {
				return err
			}
			script, ok := scripts[c.Args().First()]
			if !ok {
				return fmt.Errorf("no completion for %q: there is one for bash, fish and zsh", c.Args().First())
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

const fishCompletion = `# fish completion for runch

function __runch_complete
	set -l words (commandline -opc)
	set -l cur (commandline -ct)
	string match -q -- '-*' $cur; and set -a words $cur
	set -l list (env RUNCH_COMPLETE=1 $words --generate-bash-completion 2>/dev/null)
	if set -q list[1]
		printf '%s\n' $list
	else
		__fish_complete_path $cur
	end
end

complete -c runch -f -a '(__runch_complete)'
`

const zshCompletion = `#compdef runch

_runch() {
	local cur=${words[CURRENT]}
	local -a asked=("${(@)words[1,CURRENT-1]}") list
	[[ $cur == -* ]] && asked+=("$cur")
	list=("${(@f)$(RUNCH_COMPLETE=1 "${asked[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${list[1]} ]]; then
		compadd -- "${list[@]}"
	else
		_files
	fi
}

# The file is this function's body when zsh loads it by itself, and a script when it is sourced.
if [[ ${funcstack[1]} == _runch ]]; then
	_runch "$@"
else
	compdef _runch runch
fi
`
