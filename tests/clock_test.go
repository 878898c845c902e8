package clients

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClockJumps plays fault 21 (DURABILITY.md) with the program itself: while clients write, the clock jumps
// by up to ten years, back and forth, and the server is killed and started in between. Order is by number
// only: nothing acknowledged is lost, tokens from before every jump stay valid, and a store that is deleted
// in the wrong decade heals. The program asks the kernel's page for the time, so nothing outside of it can
// change what it sees; it is built once more with a package time that adds what a file says.
func TestClockJumps(t *testing.T) {
	r := seeded(t)
	s := newSpan(0, 30)
	if !s.long {
		notRun(t, "clock jumps", errors.New("the program is built anew for it, so only by make crash"))
		return
	}
	shift := shiftedBinary(t)
	k := newKilled(t)
	acks, jumps := 0, 0
	for ; s.goesOn(jumps); jumps++ {
		l := startLoad(k.s, k.j, r, 3, true)
		l.waitAcks(1+r.IntN(40), 120*time.Second)
		jump(t, shift, r)
		l.waitAcks(20, 120*time.Second) // the server goes on
		if jumps%2 == 0 {
			k.s.kill()
			l.stop()
			jump(t, shift, r)
			k.s.start()
		} else {
			l.stop()
		}
		acks += int(l.acks.Load())
		k.j.verifyRecent(t, k.s, r)
		for account, token := range k.tokens {
			k.tokens[account] = k.j.followToken(t, k.s.client(account), "/dav/"+account+"/contacts/", token)
		}
	}
	k.finish()
	s.totals(t, "clock jumps", jumps+(jumps+1)/2, "jumps of up to ten years", (jumps+1)/2, "kills", acks, "acknowledged writes", 0, "lost", 0, "altered")
}

// jump sets the clock to a moment within ten years of the true one.
func jump(t *testing.T, shift string, r *rand.Rand) {
	t.Helper()
	const decade = 10 * 365 * 86400 // seconds
	f, err := os.OpenFile(shift, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seconds := r.Int64N(2*decade) - decade
	if r.IntN(3) == 0 {
		seconds = r.Int64N(7201) - 3600 // an hour, as when the clock changes
	}
	word := make([]byte, 8)
	for i := range word {
		word[i] = byte(seconds >> (8 * i)) // little-endian, as amd64 and arm64 have it
	}
	if _, err := f.WriteAt(word, 0); err != nil {
		t.Fatal(err)
	}
}

// shiftedBinary makes the tests use a program whose clock is ahead by the seconds in a file, and returns the
// name of that file.
func shiftedBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	overlay := shiftedTime(t, dir)
	was, shifted := binary, filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", shifted, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with another clock: %v\n%s", err, out)
	}
	shift := writeFile(t, filepath.Join(dir, "shift"), strings.Repeat("\x00", 8))
	t.Setenv("HOLDFAST_TEST_CLOCK", shift)
	binary = shifted
	t.Cleanup(func() { binary = was })
	return shift
}

// shiftedTime writes a package time into dir that adds clockShift to the time, and returns the overlay for the
// build.
func shiftedTime(t *testing.T, dir string) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(at, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const asks = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), asks) != 1 {
		t.Fatal("package time asks for the time in another way than this test knows")
	}
	shifted := strings.Replace(string(source), asks, asks+"\tsec += *clockShift\n", 1)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(at, "time.go"):    writeFile(t, filepath.Join(dir, "time.go"), shifted),
		filepath.Join(at, "shifted.go"): writeFile(t, filepath.Join(dir, "shifted.go"), shiftedClock),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// shiftedClock is the file that is added to package time.
const shiftedClock = `package time

import (
	"syscall"
	"unsafe"
)

var clockShift = func() *int64 {
	name, ok := syscall.Getenv("HOLDFAST_TEST_CLOCK")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}()
`
