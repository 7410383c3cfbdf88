package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"

	"runch/tests/bench/measurement"
)

// network measures the rates of TCP streams in both directions, and the time until one byte is answered.
func network(ctx context.Context, server string) ([]measurement.Measurement, error) {
	var list []measurement.Measurement
	keep := func(what string, value float64) {
		list = append(list, measurement.Measurement{What: what, Value: value})
	}
	took, err := roundTrip(ctx, server)
	if err != nil {
		return nil, err
	}
	keep(measurement.RoundTrip, float64(took)/float64(time.Microsecond))
	for _, direction := range []struct {
		what string
		args []string
	}{{measurement.Up, nil}, {measurement.Down, []string{"--reverse"}}} {
		rate, err := iperf(ctx, server, direction.args...)
		if err != nil {
			return nil, err
		}
		keep(direction.what, rate/1e6)
	}
	return list, nil
}

// iperf returns the rate at which data arrived, in bits per second.
func iperf(ctx context.Context, server string, args ...string) (float64, error) {
	args = append([]string{"--client", server, "--port", measurement.IperfPort, "--time", "4", "--json"}, args...)
	text, err := exec.CommandContext(ctx, "iperf3", args...).Output()
	if err != nil {
		return 0, fmt.Errorf("iperf3: %w: %s", err, text)
	}
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return 0, fmt.Errorf("iperf3's result: %w", err)
	}
	if result.End.Received.Rate == 0 {
		return 0, fmt.Errorf("iperf3 has received nothing: %s", text)
	}
	return result.End.Received.Rate, nil
}

// roundTrip returns the mean of many round trips, after some that do not count.
func roundTrip(ctx context.Context, server string) (time.Duration, error) {
	const first, counted = 100, 2000
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(server, measurement.EchoPort))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var began time.Time
	buf := make([]byte, 1)
	for i := range first + counted {
		if i == first {
			began = time.Now()
		}
		if _, err := conn.Write(buf); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / counted, nil
}

// echo serves until it is ended.
func echo(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+measurement.EchoPort)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 1)
			for {
				if _, err := io.ReadFull(conn, buf); err != nil {
					return
				}
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		}()
	}
}
