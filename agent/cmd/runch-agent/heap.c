// The init of a container lives under the container's own limits before it
// becomes the container's program. RLIMIT_AS may be less than what the Go
// runtime has reserved by then, of which next to nothing is memory, and then the
// C heap cannot grow: but libseccomp needs it for the filter. So it is made
// large enough while it can be. It costs no memory until it is used.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define FILTER_HEAP (4 << 20) // in bytes; the filter of a common profile takes 0.6 MiB

static void __attribute__((constructor)) reserve_heap(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "init") != 0)
		return;
	mallopt(M_ARENA_MAX, 1); // all threads use what is reserved here
	mallopt(M_MMAP_THRESHOLD, 2 * FILTER_HEAP);
	mallopt(M_TRIM_THRESHOLD, 2 * FILTER_HEAP);
	void *volatile heap = malloc(FILTER_HEAP); // volatile: the two calls are not for nothing
	free(heap);
}
