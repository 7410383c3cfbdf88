package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// unsupportedCommands returns the commands of runc that always fail here. They fail with
// --help too, because callers use that to find out whether a runtime has them.
func unsupportedCommands() []*cli.Command {
	reasons := map[string]string{
		"checkpoint": "a virtual machine's processes cannot be saved by CRIU",
		"restore":    "a virtual machine's processes cannot be saved by CRIU",
	}
	var list []*cli.Command
	for _, verb := range []string{"checkpoint", "restore"} {
		list = append(list, &cli.Command{
			Name: verb, Hidden: true, HideHelp: true, SkipFlagParsing: true,
			Usage: "not supported: " + reasons[verb],
			Action: func(*cli.Context) error {
				return fmt.Errorf("%s does not support the command %s: %s", name, verb, reasons[verb])
			},
		})
	}
	return list
}
