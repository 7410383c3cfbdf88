// The agent runs from a sealed copy of itself in memory. libcontainer starts the
// binary again for every process of a container, and unless the binary cannot
// be written to it makes a copy for each: 9 MB of the guest's memory and most
// of the time of an exec. Made once, before the Go runtime starts, the copy costs
// neither: the initramfs's own is deleted.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U // Linux 6.3
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 // Linux 6.3
#endif

static const char sealed[] = "RUNCH_AGENT_SEALED";

static int make_copy(const char *path)
{
	struct stat st;
	int in = open(path, O_RDONLY | O_CLOEXEC);
	if (in < 0 || fstat(in, &st) < 0)
		return -1;
	int out = (int)syscall(SYS_memfd_create, "runch-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (out < 0) // an older kernel knows no MFD_EXEC
		out = (int)syscall(SYS_memfd_create, "runch-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (out < 0)
		return -1;
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(out, in, NULL, (size_t)left);
		if (n <= 0)
			return -1;
		left -= n;
	}
	close(in);
	if (fchmod(out, 0511) < 0)
		return -1;
	fcntl(out, F_ADD_SEALS, F_SEAL_EXEC);
	if (fcntl(out, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -1;
	return out;
}

// Before libcontainer's constructor, which has no number. A failure leaves
// everything as it is: libcontainer then makes its copies.
static void __attribute__((constructor(101))) seal(int argc, char **argv, char **envp)
{
	// Only the guest's first process is started by a kernel, with no way to
	// libcontainer: a container's first process has the number 1 as well.
	(void)envp;
	if (getpid() != 1 || getppid() != 0 || argc < 1 || getenv("_LIBCONTAINER_INITPIPE"))
		return;
	if (getenv(sealed)) {
		unsetenv(sealed);
		return;
	}
	int fd = make_copy(argv[0]);
	if (fd < 0)
		return;
	// Huge pages would make the few megabytes of an idle heap several times as
	// many; the Go runtime reads this when it starts, and nowhere else can it be told.
	if (setenv(sealed, "1", 1) < 0 || setenv("GODEBUG", "disablethp=1", 1) < 0)
		return;
	unlink(argv[0]);
	extern char **environ;
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
}
