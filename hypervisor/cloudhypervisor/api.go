package cloudhypervisor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"runch/hypervisor"
	"runch/hypervisor/process"
	"runch/plaintext"
	"runch/unixsocket"
)

// vmmName is the driver's name in messages.
const vmmName = "cloud-hypervisor"

// maxAnswer bounds an answer, in bytes; vm.info has some ten thousand.
const maxAnswer = 4 << 20

// api is the VMM's API on its socket. Each call has a connection of its own: the server
// accepts ten at most, so a connection that is kept is missing for others.
type api struct {
	// dir is the directory with the socket. It is open, because the process may have
	// another root by now.
	dir *os.File
}

// call makes a request. body and result may be nil. The descriptors of files are sent with
// the request. If the VMM refuses it, the error wraps a *hypervisor.RefusedError.
func (a api) call(ctx context.Context, method, endpoint string, body, result any, files ...*os.File) error {
	err := a.exchange(ctx, method, endpoint, body, result, files)
	var refused *hypervisor.RefusedError
	if err == nil || errors.As(err, &refused) {
		return err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s %s: %w", vmmName, endpoint, err)
}

func (a api) exchange(ctx context.Context, method, endpoint string, body, result any, files []*os.File) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	request, message, err := newRequest(ctx, method, endpoint, body)
	if err != nil {
		return err
	}
	conn, err := unixsocket.DialAt(a.dir, apiSocket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := process.SendWithFiles(conn, message, files); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), request)
	if err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		refused := &hypervisor.RefusedError{VMM: vmmName, Request: endpoint, Reasons: reasons(response, answer)}
		if response.StatusCode == http.StatusTooManyRequests {
			return fmt.Errorf("%w: %w", errReleasePending, refused)
		}
		return refused
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	return nil
}

// newRequest returns a request and its bytes, because net/http cannot send descriptors with
// a request. The request has a Content-Length: the server does not support chunks.
func newRequest(ctx context.Context, method, endpoint string, body any) (*http.Request, []byte, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost/api/v1/"+endpoint, content)
	if err != nil {
		return nil, nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	var message bytes.Buffer
	if err := request.Write(&message); err != nil {
		return nil, nil, err
	}
	return request, message.Bytes(), nil
}

// reasons returns the reasons of a refusal: an array of strings, or text in older versions.
func reasons(response *http.Response, answer []byte) []string {
	var list []string
	if json.Unmarshal(answer, &list) == nil && len(list) > 0 {
		return list
	}
	if text := strings.TrimSpace(string(answer)); text != "" {
		return []string{text}
	}
	return []string{response.Status}
}

func (a api) get(ctx context.Context, endpoint string, result any) error {
	return a.call(ctx, http.MethodGet, endpoint, nil, result)
}

func (a api) put(ctx context.Context, endpoint string, body any, files ...*os.File) error {
	return a.call(ctx, http.MethodPut, endpoint, body, nil, files...)
}

// add plugs in a device. The error wraps ErrNoSlot if no slot is free.
func (a api) add(ctx context.Context, endpoint string, body any, files ...*os.File) error {
	err := a.put(ctx, endpoint, body, files...)
	var refused *hypervisor.RefusedError
	if errors.As(err, &refused) && strings.Contains(strings.Join(refused.Reasons, " "), noSlotReason) {
		return fmt.Errorf("%w: %w", hypervisor.ErrNoSlot, err)
	}
	return err
}

// noSlotReason is in the VMM's reasons when the PCI bus is full.
const noSlotReason = "available device slot"

// firstVersion is the oldest that is known to support all requests of this driver.
const firstVersion = 40

// version returns the VMM's version. The VMM answers as soon as it runs.
func (a api) version(ctx context.Context) (string, error) {
	var p pingResponse
	if err := a.get(ctx, "vmm.ping", &p); err != nil {
		return "", err
	}
	text := strings.TrimPrefix(p.Version, "v")
	number, _, _ := strings.Cut(text, ".")
	major, err := strconv.Atoi(number)
	if err != nil {
		return "", fmt.Errorf("%s gives %q for its version", vmmName, plaintext.Line(p.Version))
	}
	if major < firstVersion {
		return "", fmt.Errorf("%s %s is too old: %d is needed", vmmName, plaintext.Line(text), firstVersion)
	}
	return text, nil
}
