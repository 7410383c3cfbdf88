package commands

import (
	"encoding/json"

	"runch/oci"

	"github.com/urfave/cli/v2"
)

func featuresCommand() *cli.Command {
	return &cli.Command{
		Name:        "features",
		Usage:       "show the supported features",
		Description: "The features command prints what is supported as JSON, as the runtime specification's features.md has it.",
		Action: func(c *cli.Context) error {
			if err := exactArgs(c, 0); err != nil {
				return err
			}
			features := oci.Features()
			e := json.NewEncoder(c.App.Writer)
			e.SetIndent("", "    ")
			return e.Encode(features)
		},
	}
}
