package callers

import "fmt"

// overheadCPU is the CPU time that a pod's VMM, virtiofsd and shims need, as a quantity of
// Kubernetes.
const overheadCPU = "100m"

// RuntimeClass returns the manifest of the RuntimeClass by which pods select runch.
// overheadMiB is the memory of a pod's VM in addition to that of its containers, in MiB.
func RuntimeClass(overheadMiB int) string {
	return fmt.Sprintf(`apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: %[1]s
handler: %[1]s
overhead:
  podFixed:
    memory: %[2]dMi
    cpu: %[3]s
`, runtimeName, overheadMiB, overheadCPU)
}
