package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"runch/oci"

	"github.com/urfave/cli/v2"
)

func specCommand() *cli.Command {
	return &cli.Command{
		Name:  "spec",
		Usage: "create a new specification file",
		Description: "The spec command writes a config.json to start from. Its process is sh, on a terminal; its root file system is\n" +
			"the directory rootfs beside it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "`DIR` of the bundle (default: the current directory)"},
			&cli.BoolFlag{Name: "rootless", Usage: "make a configuration for a caller who is not root"},
		},
		Action: writeSpec,
	}
}

func writeSpec(c *cli.Context) error {
	if err := exactArgs(c, 0); err != nil {
		return err
	}
	spec := oci.DefaultSpec()
	if c.Bool("rootless") {
		oci.Rootless(spec)
	}
	data, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return err
	}
	path := filepath.Join(c.String("bundle"), oci.ConfigName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("file %s exists: remove it first", path)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return err
	}
	return f.Close()
}
