//go:build unix

package durable_test

import (
	"os"
	"syscall"
	"testing"
)

// blocks returns how many blocks of 512 bytes a file takes.
func blocks(t *testing.T, name string) int64 {
	t.Helper()
	i, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Sys().(*syscall.Stat_t).Blocks
}
