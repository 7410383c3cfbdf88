package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"runch/sandbox"

	"github.com/urfave/cli/v2"
)

func (p *program) networkCommand() *cli.Command {
	return &cli.Command{
		Name:  "network",
		Usage: "show and change the network of a container that is there",
		Description: "A container's guest has an interface for each link of the container's network namespace on the host. The network\n" +
			"command shows them, and brings the guest in step with a namespace that has changed since the container's start.",
		Subcommands: []*cli.Command{
			p.completesID(p.networkListCommand()), p.completesID(p.networkAddCommand()), p.completesID(p.networkRemoveCommand()),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fmt.Errorf("unknown command %q of network: use ls, add or remove", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

func (p *program) networkListCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list the interfaces of the guest, with the links and taps on the host that they belong to",
		ArgsUsage: "<container-id>",
		Flags:     []cli.Flag{formatFlag()},
		Action: func(c *cli.Context) error {
			id, err := onlyID(c)
			if err != nil {
				return err
			}
			format := c.String("format")
			if format != "table" && format != "json" {
				return errFormat
			}
			interfaces, err := p.runtime(c).Interfaces(c.Context, id)
			if err != nil {
				return err
			}
			if format == "json" {
				return json.NewEncoder(c.App.Writer).Encode(interfaces)
			}
			return interfaceTable(c.App.Writer, interfaces)
		},
	}
}

func (p *program) networkAddCommand() *cli.Command {
	return &cli.Command{
		Name:        "add",
		Usage:       "bring links of the network namespace into the guest",
		ArgsUsage:   "<container-id> [link...]",
		Description: "Without a link, the guest gets all that are there. What is configured on the links that it has is renewed.",
		Action: func(c *cli.Context) error {
			if err := minArgs(c, 1); err != nil {
				return err
			}
			id, err := containerID(c)
			if err != nil {
				return err
			}
			return p.runtime(c).AddLinks(c.Context, id, c.Args().Tail())
		},
	}
}

func (p *program) networkRemoveCommand() *cli.Command {
	return &cli.Command{
		Name:        "remove",
		Usage:       "take links out of the guest",
		ArgsUsage:   "<container-id> <link>...",
		Description: "The links stay in the network namespace, if they are there, and out of the guest until they are added again.",
		Action: func(c *cli.Context) error {
			if err := minArgs(c, 2); err != nil {
				return err
			}
			id, err := containerID(c)
			if err != nil {
				return err
			}
			return p.runtime(c).RemoveLinks(c.Context, id, c.Args().Tail())
		},
	}
}

func interfaceTable(out io.Writer, interfaces []sandbox.Interface) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprint(w, "NAME\tMAC\tMTU\tADDRESSES\tLINK\tTAP\n")
	for _, i := range interfaces {
		link := i.Link
		if i.Stale {
			link += " (stale)"
		}
		mtu := "-"
		if i.MTU > 0 {
			mtu = fmt.Sprint(i.MTU)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", orDefault(i.Name, "-"), orDefault(i.MAC, "-"), mtu,
			orDefault(strings.Join(i.Addresses, ","), "-"), link, i.Tap)
	}
	return w.Flush()
}
