package agent

import (
	"errors"
	"testing"

	"runch/agentproto"
)

func TestParseCmdline(t *testing.T) {
	def := Params{Transport: agentproto.TransportVsock, HelloPort: agentproto.HelloPort}
	for _, tc := range []struct {
		name, line string
		want       Params
		bad        bool
	}{
		{name: "empty", line: "", want: def},
		{name: "others only", line: "console=ttyS0 quiet runch.later=1 panic=-1\n", want: def},
		{
			name: "all", line: "quiet runch.transport=serial runch.hello_port=5000 runch.debug panic=-1",
			want: Params{Transport: agentproto.TransportSerial, HelloPort: 5000, Debug: true},
		},
		{name: "last holds", line: "runch.transport=serial runch.transport=vsock", want: def},
		{name: "debug off", line: "runch.debug=0", want: def},
		{name: "largest port", line: "runch.hello_port=4294967295", want: Params{Transport: agentproto.TransportVsock, HelloPort: 1<<32 - 1}},
		{name: "transport", line: "runch.transport=pigeon", bad: true},
		{name: "no transport", line: "runch.transport", bad: true},
		{name: "port 0", line: "runch.hello_port=0", bad: true},
		{name: "port too large", line: "runch.hello_port=4294967296", bad: true},
		{name: "port is a word", line: "runch.hello_port=x", bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseCmdline(tc.line)
			if tc.bad != (err != nil) {
				t.Fatalf("error %v", err)
			}
			if tc.bad && !errors.Is(err, errParam) {
				t.Errorf("error %v is not about a parameter", err)
			}
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add("runch.transport=serial runch.hello_port=1 runch.debug")
	f.Add("runch.hello_port=\x00")
	f.Fuzz(func(t *testing.T, line string) {
		p, err := ParseCmdline(line)
		if err == nil && (p.HelloPort == 0 || p.Transport != agentproto.TransportVsock && p.Transport != agentproto.TransportSerial) {
			t.Errorf("%q gave %+v", line, p)
		}
	})
}
