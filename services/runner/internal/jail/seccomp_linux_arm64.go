package jail

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_AARCH64

var archCalls []uint32

var archProgramCalls = []uint32{unix.SYS_FSTATAT}
