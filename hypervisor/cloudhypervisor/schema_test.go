package cloudhypervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// The documented bodies of the requests that the driver makes: the fields of
// cloud-hypervisor's OpenAPI description (version 0.3.0, release 53), without the
// parts that the driver does not use. Fields marked with must are required.
type (
	object map[string]any // a schema for each field
	list   struct{ of any }
	scalar string
)

const (
	text    scalar = "string"
	number  scalar = "number"
	boolean scalar = "boolean"
)

// must marks a required field.
type must struct{ schema any }

// enum are the documented values of a field.
type enum []string

var (
	ratelimiter = object{
		"bandwidth": object{"size": must{number}, "one_time_burst": number, "refill_time": must{number}},
		"ops":       object{"size": must{number}, "one_time_burst": number, "refill_time": must{number}},
	}
	pci = object{"id": text, "pci_segment": number, "pci_device_id": number}

	diskSchema = with(pci, object{
		"path": text, "readonly": boolean, "direct": boolean, "iommu": boolean, "num_queues": number, "queue_size": number,
		"vhost_user": boolean, "vhost_socket": text, "rate_limiter_config": ratelimiter, "serial": text, "rate_limit_group": text,
		"backing_files": boolean, "sparse": boolean, "image_type": enum{"FixedVhd", "Qcow2", "Raw", "Vhdx", "Unknown"},
		"lock_granularity": enum{"ByteRange", "Full"},
	})
	netSchema = with(pci, object{
		"tap": text, "ip": text, "mask": text, "mac": text, "host_mac": text, "mtu": number, "iommu": boolean, "num_queues": number,
		"queue_size": number, "vhost_user": boolean, "vhost_socket": text, "vhost_mode": text, "rate_limiter_config": ratelimiter,
		"offload_tso": boolean, "offload_ufo": boolean, "offload_csum": boolean,
	})
	fsSchema = with(pci, object{
		"tag": must{text}, "socket": must{text}, "num_queues": must{number}, "queue_size": must{number},
	})
	consoleMode  = enum{"Off", "Pty", "Tty", "File", "Socket", "Null"}
	serialSchema = object{"file": text, "socket": text, "mode": must{consoleMode}}

	vmSchema = object{
		"cpus": object{
			"boot_vcpus": must{number}, "max_vcpus": must{number}, "kvm_hyperv": boolean, "max_phys_bits": number, "nested": boolean,
			"core_scheduling": enum{"Vm", "Vcpu", "Off"},
		},
		"memory": object{
			"size": must{number}, "hotplug_size": number, "hotplugged_size": number, "mergeable": boolean,
			"hotplug_method": enum{"Acpi", "VirtioMem"}, "shared": boolean, "hugepages": boolean, "hugepage_size": number,
			"prefault": boolean, "reserve": boolean, "thp": boolean,
		},
		"payload": must{object{"firmware": text, "kernel": text, "cmdline": text, "initramfs": text, "igvm": text, "host_data": text}},
		"disks":   list{diskSchema},
		"net":     list{netSchema},
		"fs":      list{fsSchema},
		"rng":     with(pci, object{"src": must{text}, "iommu": boolean}),
		"balloon": with(pci, object{"size": must{number}, "iommu": boolean, "deflate_on_oom": boolean, "free_page_reporting": boolean}),
		"serial":  serialSchema,
		"console": with(pci, serialSchema, object{"iommu": boolean}),
		"vsock":   with(pci, object{"cid": must{number}, "socket": must{text}, "iommu": boolean}),
		"iommu":   boolean, "watchdog": boolean, "pvpanic": boolean,
		"platform":        object{"num_pci_segments": number, "system_uuid": text, "oem_strings": list{text}},
		"landlock_enable": boolean,
		"landlock_rules":  list{object{"path": must{text}, "access": must{text}}},
	}

	// bodies are the requests' bodies by endpoint, nil for one without a body.
	bodies = map[string]object{
		"vm.create": vmSchema, "vm.add-net": netSchema, "vm.add-disk": diskSchema, "vm.add-fs": fsSchema,
		"vm.remove-device": {"id": text},
		"vm.resize":        {"desired_vcpus": number, "desired_ram": number, "desired_balloon": number},
		"vm.snapshot":      {"destination_url": text},
		// net_fds is in the program's documents, not in the OpenAPI description.
		"vm.restore": {
			"source_url": must{text}, "prefault": boolean, "memory_restore_mode": enum{"Copy", "OnDemand"}, "resume": boolean,
			"net_fds": list{object{"id": must{text}, "num_fds": must{number}}},
		},
		"vm.boot": nil, "vm.pause": nil, "vm.resume": nil, "vm.shutdown": nil, "vm.delete": nil, "vm.reboot": nil,
		"vm.power-button": nil, "vmm.shutdown": nil,
	}
	// questions are the endpoints of GET.
	questions = []string{"vmm.ping", "vm.info", "vm.counters"}
)

func with(parts ...object) object {
	all := object{}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}

// judge returns an error for a request that the real server would not accept.
func judge(r *http.Request, isAPI bool, endpoint string, body []byte) error {
	const maxBody, maxLine = 51200, 1023
	switch {
	case !isAPI:
		return fmt.Errorf("path %s", r.URL.Path)
	case len(r.TransferEncoding) > 0:
		return errors.New("the body is chunked")
	case len(body) > maxBody:
		return fmt.Errorf("a body of %d bytes", len(body))
	}
	for name, values := range r.Header {
		if len(name)+len(strings.Join(values, ",")) > maxLine {
			return fmt.Errorf("the header %s is too long", name)
		}
	}
	if slices.Contains(questions, endpoint) {
		if r.Method != http.MethodGet || len(body) > 0 {
			return fmt.Errorf("%s %s with %d bytes", r.Method, endpoint, len(body))
		}
		return nil
	}
	if r.Method != http.MethodPut {
		return fmt.Errorf("%s %s", r.Method, endpoint)
	}
	return checkBody(endpoint, body)
}

// checkBody returns an error that says where a body differs from the documentation.
func checkBody(endpoint string, body []byte) error {
	schema, ok := bodies[endpoint]
	switch {
	case !ok:
		return fmt.Errorf("%s is not documented", endpoint)
	case schema == nil && len(body) > 0:
		return fmt.Errorf("%s has no body", endpoint)
	case schema == nil:
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	return check(endpoint, schema, value)
}

func check(at string, schema, value any) error {
	switch s := schema.(type) {
	case must:
		return check(at, s.schema, value)
	case object:
		return checkObject(at, s, value)
	case list:
		elements, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s is no array", at)
		}
		for i, element := range elements {
			if err := check(fmt.Sprintf("%s[%d]", at, i), s.of, element); err != nil {
				return err
			}
		}
		return nil
	case enum:
		if word, ok := value.(string); !ok || !slices.Contains(s, word) {
			return fmt.Errorf("%s is %v, not one of %q", at, value, s)
		}
		return nil
	default:
		if kind := map[bool]scalar{true: text}[isA[string](value)] + map[bool]scalar{true: number}[isA[float64](value)] +
			map[bool]scalar{true: boolean}[isA[bool](value)]; kind != schema {
			return fmt.Errorf("%s is a %s, not a %v", at, kind, schema)
		}
		return nil
	}
}

func isA[T any](value any) bool {
	_, ok := value.(T)
	return ok
}

func checkObject(at string, schema object, value any) error {
	fields, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is no object", at)
	}
	for name, field := range fields {
		inner, known := schema[name]
		if !known {
			return fmt.Errorf("%s.%s is not documented", at, name)
		}
		if err := check(at+"."+name, inner, field); err != nil {
			return err
		}
	}
	for name, inner := range schema {
		if _, required := inner.(must); required && fields[name] == nil {
			return fmt.Errorf("%s.%s is missing", at, name)
		}
	}
	return nil
}
