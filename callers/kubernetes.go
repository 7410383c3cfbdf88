package callers

import "fmt"

// overheadCPU is what VMM, virtiofsd and shims of a pod take of a processor.
const overheadCPU = "100m"

// RuntimeClass is the manifest by which pods choose runch. The overhead is in MiB: what
// a pod's VM takes besides the memory of its containers.
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
