package dav

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// A file keeps the time that it has on the device it comes from: programs that copy folders compare
// times, and photos are sorted by them. A client gives it with the PUT (X-OC-Mtime, of ownCloud) or
// afterwards with PROPPATCH. There is one time of change, and every property and header shows it.

const (
	nsOwnCloud = "http://owncloud.org/ns"
	nsWindows  = "urn:schemas-microsoft-com:"
)

// Times that can be told in every form that is in use: from year 1 to year 9999, in milliseconds.
const (
	minTime = -62135596800_000
	maxTime = 253402300799_999
)

// createdName is the property with the time that a client gave as that of creation, in milliseconds.
var createdName = xml.Name{Space: nsOwn, Local: "created"}

// clientTime is a time that clients set with PROPPATCH.
type clientTime struct {
	created bool // the time of creation, not that of change
	windows bool // Windows may take it away again
}

var clientTimes = map[xml.Name]clientTime{
	davName("getlastmodified"):                         {},
	davName("lastmodified"):                            {}, // rclone and ownCloud's own; they mean getlastmodified
	davName("creationdate"):                            {created: true},
	{Space: nsWindows, Local: "Win32LastModifiedTime"}: {windows: true},
	{Space: nsWindows, Local: "Win32CreationTime"}:     {windows: true, created: true},
}

// parseDate reads a time as clients write it: seconds since 1970, an HTTP date, or RFC 3339.
func parseDate(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if ms, ok := parseSeconds(s); ok {
		return ms, true
	}
	t, err := http.ParseTime(s)
	if err != nil {
		t, err = time.Parse(time.RFC3339, s)
	}
	if err != nil {
		return 0, false
	}
	ms := t.UnixMilli()
	return ms, ms >= minTime && ms <= maxTime
}

// parseSeconds reads seconds since 1970, with a fraction or without, into milliseconds.
func parseSeconds(s string) (int64, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n < minTime/1000 || n > maxTime/1000 {
		return 0, false
	}
	if strings.Trim(fraction, "0123456789") != "" {
		return 0, false
	}
	ms, err := strconv.ParseInt((fraction + "000")[:3], 10, 64)
	if err != nil {
		return 0, false
	}
	if strings.HasPrefix(whole, "-") {
		ms = -ms
	}
	return n*1000 + ms, true
}

// headerTime reads a header with a time in seconds; ok is false without one.
func headerTime(h http.Header, name string) (ms int64, ok bool, err error) {
	v := strings.TrimSpace(h.Get(name))
	if v == "" {
		return 0, false, nil
	}
	if ms, ok = parseSeconds(v); !ok {
		return 0, false, badRequest("%s is not a number of seconds since 1970", name)
	}
	return ms, true, nil
}

// isFile reports whether a target is a file: its times are the client's.
func isFile(t *target) bool { return t.place == placeResource && t.coll.Kind == holdfast.KindFile }

// createdAt returns the time of creation: what a client gave, else when the resource came here.
func createdAt(r *ledger.Resource) int64 {
	if v, ok := property(r.Props, createdName); ok {
		if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
			return ms
		}
	}
	return r.Created
}

// setTimes takes the changes that are about times of a file out of a PROPPATCH. It returns the time of
// change that they want, and the rest, in which a time of creation is a property of the server's own.
// One that cannot be read gets its fault (RFC 4918, 9.2.1: 409, the value does not fit).
func setTimes(t *target, changes []propChange) (modified int64, rest []propChange, bad bool) {
	if !isFile(t) {
		return 0, changes, false
	}
	modified = t.res.Modified
	for i := range changes {
		c := &changes[i]
		known, ok := clientTimes[c.name]
		switch {
		case c.name == ocChecksums && !c.remove && knownChecksums(t.res, textOf(c.value)):
			c.allowed = true // rclone sends with each time what it was told
		case !ok:
			rest = append(rest, *c)
		case c.remove && known.windows:
			c.allowed = true // it is a view of a time that is always there
		case c.remove: // protected
		default:
			ms, ok := parseDate(textOf(c.value))
			if !ok {
				c.fault, bad = &fault{status: http.StatusConflict, detail: "not a time"}, true
				continue
			}
			c.allowed = true
			if known.created {
				rest = append(rest, propChange{name: createdName, value: strconv.FormatInt(ms, 10)})
			} else {
				modified = ms
			}
		}
	}
	return modified, rest, bad
}

// textOf returns the characters of a stored value, of all its elements.
func textOf(value string) string {
	var text strings.Builder
	var walk func(nodes []node)
	walk = func(nodes []node) {
		for i := range nodes {
			text.WriteString(nodes[i].text)
			walk(nodes[i].kids)
		}
	}
	walk(fragment(value))
	return text.String()
}

// writeWindowsTime shows a time of a file as Windows wants it. A folder has what Windows stored.
func writeWindowsTime(name string, at func(r *ledger.Resource) int64) writer {
	return func(c *propContext, dst []byte) ([]byte, bool, error) {
		if isFile(c.t) {
			return time.UnixMilli(at(c.t.res)).UTC().AppendFormat(dst, http.TimeFormat), true, nil
		}
		v, ok := property(c.dead(), xml.Name{Space: nsWindows, Local: name})
		if !ok {
			return dst, false, nil
		}
		return appendFragment(dst, v), true, nil
	}
}

func modifiedAt(r *ledger.Resource) int64 { return r.Modified }
