package doctor

import "syscall"

// unsynced is STA_UNSYNC of adjtimex(2).
const unsynced = 0x40

// clockKept reports whether the kernel believes that the clock is synchronised, and whether it says so at all.
func clockKept() (kept, known bool) {
	var t syscall.Timex // Modes 0: it is only read
	if _, err := syscall.Adjtimex(&t); err != nil {
		return false, false
	}
	return t.Status&unsynced == 0, true
}
