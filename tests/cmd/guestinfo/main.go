// Command guestinfo asks the agent of a container's VM what the guest is and what it uses, and prints the answer as
// JSON with the field names of agent.proto. The agent counts this call too.
//
//	guestinfo ROOT ID
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"runch/agentproto"
	"runch/state"
)

// timeout bounds the call.
const timeout = 10 * time.Second

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "guestinfo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: guestinfo ROOT ID")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := state.NewStore(args[0]).LoadSandbox(args[1])
	if err != nil {
		return err
	}
	client, err := agentproto.Connect(ctx, s.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	info, err := client.Info(ctx, &agentproto.InfoRequest{})
	if err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(info)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(text))
	return err
}
