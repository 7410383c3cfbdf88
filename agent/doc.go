// Package agent is the guest side of runch: PID 1 of the VM. It brings the
// guest up (mounts, kernel modules, the containers' network namespace), says
// hello to the host, serves the Agent service and the raw streams of
// agentproto, and runs containers with runc's libcontainer.
//
// Nothing in it trusts what arrives from outside the guest: sizes, counts and
// ids are bounded before they are used. It owns no policy: what a container may
// do is in the spec that the host sends.
package agent
