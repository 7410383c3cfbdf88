// Command registry is a registry of container images, for callers that pull the images that they run. It makes the
// images from directories. It listens on the loopback device, prints its address once all images are there, and serves
// until it is ended.
//
//	registry DIR
//
// Each directory in DIR is an image: "names" has its names in any registry (pause:3.9), a line each; "config.json" is
// the OCI configuration of its process; its layers are the tar files, in the order of their names.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "registry: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: registry DIR")
	}
	dirs, err := filepath.Glob(filepath.Join(args[0], "*", "names"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it lives as long as the program
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           registry.New(registry.Logger(log.New(os.Stderr, "", 0))),
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	address := listener.Addr().String()
	for _, names := range dirs {
		if err := push(address, names); err != nil {
			return fmt.Errorf("%s: %w", filepath.Dir(names), err)
		}
	}
	fmt.Println(address)
	return <-served
}

// push makes the image of the directory that has the file names, and pushes it under each of the names in the file.
func push(address, names string) error {
	image, err := build(filepath.Dir(names))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(names)
	if err != nil {
		return err
	}
	for _, each := range strings.Fields(string(text)) {
		ref, err := name.NewTag(address+"/"+each, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, image); err != nil {
			return err
		}
	}
	return nil
}

func build(dir string) (v1.Image, error) {
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	config := v1.ConfigFile{OS: "linux", Architecture: "amd64"}
	if err := json.Unmarshal(text, &config.Config); err != nil {
		return nil, err
	}
	image, err := mutate.ConfigFile(empty.Image, &config)
	if err != nil {
		return nil, err
	}
	layers, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return nil, err
	}
	for _, each := range layers {
		layer, err := tarball.LayerFromFile(each)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	return image, nil
}
