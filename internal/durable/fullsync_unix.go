//go:build unix && !linux && !darwin

package durable

const fullSync = 0
