package durable

import "golang.org/x/sys/unix"

const fullSync = unix.F_FULLFSYNC
