package commands

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"runch/config"
	"runch/sandbox"
	"runch/state"

	"github.com/urfave/cli/v2"
)

// configFlags are the global flags that are settings of package config.
var configFlags = []string{"hypervisor", "accel", "kernel", "initramfs", "memory"}

func (p *program) globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "debug", Usage: "log what is done, not only what goes wrong"},
		&cli.StringFlag{Name: "log", Usage: "append the log to `FILE` instead of writing it to stderr"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log: text or json"},
		&cli.StringFlag{Name: "root", Value: state.DefaultRoot(), Usage: "`DIR` with the state of containers; it should be in a tmpfs"},
		&cli.BoolFlag{Name: "systemd-cgroup", Usage: "let systemd make the cgroup, with cgroupsPath in the form \"slice:prefix:name\""},
		&cli.StringFlag{Name: "rootless", Value: "auto", Usage: "accepted and ignored: `BOOL` or auto"},
		&cli.StringFlag{Name: "criu", Hidden: true, Usage: "accepted and ignored"},
		&cli.StringFlag{Name: "config", Usage: "configuration `FILE` in place of " + config.DefaultFile, EnvVars: []string{"RUNCH_CONFIG"}},
		&cli.StringFlag{Name: "hypervisor", Usage: "`DRIVER` of virtual machines: auto, cloud-hypervisor or qemu"},
		&cli.StringFlag{Name: "accel", Usage: "`KIND` of acceleration: auto, kvm or tcg"},
		&cli.StringFlag{Name: "kernel", Usage: "`FILE` with the guest's kernel"},
		&cli.StringFlag{Name: "initramfs", Usage: "`FILE` with the guest's initramfs"},
		&cli.StringFlag{Name: "memory", Usage: "`SIZE` of memory for a container without a limit, such as 512M"},
	}
}

// before applies the global flags that concern every command.
func (p *program) before(c *cli.Context) error {
	if err := p.log.open(c.String("log"), c.String("log-format"), c.Bool("debug")); err != nil {
		return err
	}
	if mode := c.String("rootless"); mode != "" && !strings.EqualFold(mode, "auto") {
		if _, err := strconv.ParseBool(mode); err != nil {
			return fmt.Errorf("invalid --rootless %q: it is true, false or auto", mode)
		}
	}
	if !c.IsSet("root") {
		return nil
	}
	root, err := filepath.Abs(c.String("root"))
	if err != nil {
		return err
	}
	if root == "/" {
		// Abs also returns / for "" and ".." in some working directories.
		return errors.New("option --root must not be /")
	}
	return c.Set("root", root)
}

// runtime returns a Runtime for commands that make no virtual machine. It does not read
// the configuration, so these commands work even if the configuration is wrong.
func (p *program) runtime(c *cli.Context) *sandbox.Runtime {
	return &sandbox.Runtime{
		Store: state.NewStore(c.String("root")), Config: config.Default(), Log: slog.New(p.log), Systemd: c.Bool("systemd-cgroup"),
		FallbackFlags: fallbackFlags(c.App.Flags, p.args),
	}
}

// configured returns a Runtime with the configuration, for commands that make virtual
// machines, and the settings that the configuration consists of.
func (p *program) configured(c *cli.Context) (*sandbox.Runtime, []config.Setting, error) {
	o := config.Options{File: c.String("config"), Getenv: os.Getenv, Flags: make(map[string]string)}
	if o.File != "" {
		o.DropIn = filepath.Join(filepath.Dir(o.File), "config.d")
	}
	for _, name := range configFlags {
		if c.IsSet(name) {
			o.Flags[name] = c.String(name)
		}
	}
	cfg, settings, err := config.Load(o)
	if err != nil {
		return nil, nil, err
	}
	r := p.runtime(c)
	r.Config = cfg
	return r, settings, nil
}
