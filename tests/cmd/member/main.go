// Command member makes one more container in the sandbox of a running container, by the agent's own protocol. The new
// container has the running one's root file system, and the guest's at /guest. Its program's output goes to stdout,
// and its exit code becomes member's. The container ends when member does.
//
//	member [-join TYPE=[ID]]... [-user] [-sysfs] [-share NAME] [-submount PATH] [-hostname NAME] [-memory BYTES] ROOT ID NEW PROGRAM [ARG]...
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"runch/agentproto"
	"runch/state"
)

// timeout bounds the calls; the program may take longer.
const timeout = time.Minute

func main() {
	code, err := run(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "member: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// options are the command line's.
type options struct {
	shared   []*agentproto.SharedNamespace
	user     bool
	sysfs    bool
	share    string
	submount []string
	hostname string
	memory   int64
	root, id string
	// of is the share of the running container
	of   string
	name string
	args []string
}

func parse(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("member", flag.ContinueOnError)
	f.Func("join", "TYPE=[ID]", func(word string) error {
		kind, id, ok := strings.Cut(word, "=")
		if !ok {
			return errors.New("no =")
		}
		o.shared = append(o.shared, &agentproto.SharedNamespace{Type: kind, ContainerId: id})
		return nil
	})
	f.BoolVar(&o.user, "user", false, "with a user namespace")
	f.BoolVar(&o.sysfs, "sysfs", false, "with a sysfs")
	f.StringVar(&o.share, "share", "", "directory of the share that ends with the container")
	f.Func("submount", "host's mount in the share", func(path string) error {
		o.submount = append(o.submount, path)
		return nil
	})
	f.StringVar(&o.hostname, "hostname", "", "host name to set")
	f.Int64Var(&o.memory, "memory", 0, "limit of memory in bytes")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() < 4 {
		return nil, errors.New("usage: member [OPTION]... ROOT ID NEW PROGRAM [ARG]")
	}
	o.root, o.id, o.name, o.args = f.Arg(0), f.Arg(1), f.Arg(2), f.Args()[3:]
	return o, nil
}

func run(ctx context.Context, args []string) (int, error) {
	o, err := parse(args)
	if err != nil {
		return 0, err
	}
	store := state.NewStore(o.root)
	c, err := store.Load(o.id)
	if err != nil {
		return 0, err
	}
	o.of = c.Share
	s, err := store.LoadSandbox(c.Sandbox)
	if err != nil {
		return 0, err
	}
	client, err := agentproto.Connect(ctx, s.Endpoint)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	copied, stdio, err := output(ctx, s.Endpoint)
	if err != nil {
		return 0, err
	}
	if err := o.start(ctx, client, stdio); err != nil {
		return 0, err
	}
	end, err := client.Wait(ctx, &agentproto.WaitRequest{ContainerId: o.name})
	if err != nil {
		return 0, err
	}
	if end.GetOomKilled() {
		defer fmt.Println("out of memory")
	}
	return int(end.GetExitCode()), <-copied
}

// start makes the container and lets its program run.
func (o *options) start(ctx context.Context, client *agentproto.Client, stdio *agentproto.Stdio) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	spec, err := json.Marshal(o.spec())
	if err != nil {
		return err
	}
	_, err = client.CreateContainer(ctx, &agentproto.CreateContainerRequest{
		ContainerId: o.name, Spec: spec, Stdio: stdio, SharedNamespaces: o.shared, Share: o.share, Submounts: o.submount,
	})
	if err == nil {
		_, err = client.StartContainer(ctx, &agentproto.StartContainerRequest{ContainerId: o.name})
	}
	return agentproto.FromAgent(err)
}

// output opens one stream for the container's stdout and stderr, and copies it to this process's stdout.
func output(ctx context.Context, d agentproto.Dialer) (<-chan error, *agentproto.Stdio, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, nil, err
	}
	id := binary.NativeEndian.Uint64(random[:]) | 1
	conn, err := d.Dial(ctx, agentproto.StreamPort)
	if err != nil {
		return nil, nil, err
	}
	if err := agentproto.WriteStreamHeader(conn, id); err != nil {
		return nil, nil, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(os.Stdout, conn)
		copied <- err
	}()
	return copied, &agentproto.Stdio{Stdout: id}, nil
}
